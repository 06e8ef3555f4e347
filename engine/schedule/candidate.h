// Candidate: one output of a request, from its sampled tokens to text: what the next draw depends on, the
// detokenizer, the stop strings, and when the output ends. It knows nothing of slots and ticks.
//
// Threads: one thread (the engine's).
#ifndef MAMBAD_ENGINE_SCHEDULE_CANDIDATE_H_
#define MAMBAD_ENGINE_SCHEDULE_CANDIDATE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/request.h"
#include "engine/schedule/batch.h"
#include "engine/text/detokenizer.h"
#include "engine/text/stop_matcher.h"
#include "engine/token_event.h"

namespace mambad {

class Tokenizer;

class Candidate {
 public:
  // `request` must outlive the candidate. `tokenizer` may be null: then there is no text. REQUIRES:
  // Validate(request) was OK.
  Candidate(const GenerationRequest& request, uint32_t index, uint64_t seed, const Tokenizer* tokenizer,
            const std::vector<uint32_t>& eos_token_ids, uint32_t vocab_size);

  // What the next draw depends on. REQUIRES: !ended().
  const SamplingRow& sampling() const { return sampling_; }

  // Takes the token that was drawn: emits it with the text that it completes, and decides whether the output
  // ends. REQUIRES: !ended().
  DeltaEvent Take(const LogitsResult& result);

  bool ended() const { return reason_.has_value(); }
  // REQUIRES: ended().
  FinishReason reason() const { return *reason_; }
  const std::string& matched_stop() const { return matched_stop_; }

  uint64_t output_tokens() const { return sampling_.key.token_index; }
  // The token emitted last. REQUIRES: output_tokens() > 0.
  uint32_t last_token() const { return last_token_; }
  // Of the token that is drawn next, while nobody has seen it: whether the output ends with it by its number,
  bool next_is_last() const { return output_tokens() + 1 >= request_->stop.max_output_tokens; }
  // and the ids that would end the output without being consumed.
  void AppendStopsOfNext(std::vector<uint32_t>* stops) const;
  // Whether the state shall still consume last_token() although the output has ended: an end-of-sequence or
  // stop token only on request, any other always.
  bool consumes_last() const;

 private:
  bool Penalizes() const;
  void CountPrompt();
  void CountOutput(uint32_t token);
  void SuppressEnds();
  std::optional<FinishReason> ReasonToEnd(uint32_t token) const;
  std::string TextOf(uint32_t token);

  const GenerationRequest* request_;
  uint32_t vocab_size_;
  std::vector<uint32_t> eos_token_ids_;  // empty under ignore_eos
  SamplingRow sampling_;
  absl::flat_hash_map<int32_t, size_t> count_index_;  // token to its place in sampling_.token_counts

  bool with_text_ = false;
  std::optional<Detokenizer> detokenizer_;  // none: neither text nor stop strings are wanted
  StopMatcher stops_;

  uint32_t last_token_ = 0;
  std::optional<FinishReason> reason_;
  std::string matched_stop_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SCHEDULE_CANDIDATE_H_
