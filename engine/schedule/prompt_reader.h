// PromptReader: the prompt phase of one request as a sequence of chunks: which tokens the state consumes
// next, which log-probabilities are wanted on the way, and what came of them.
//
// Score reads its context and its text as one input, but for the last token, which only needs to be
// predicted. The first input token is predicted by the state as it was before (a session past position 0), or
// by nothing: then its log-probability is NaN.
//
// Threads: one thread (the engine's).
#ifndef MAMBAD_ENGINE_SCHEDULE_PROMPT_READER_H_
#define MAMBAD_ENGINE_SCHEDULE_PROMPT_READER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/request.h"
#include "engine/schedule/batch.h"
#include "engine/token_event.h"

namespace mambad {

class PromptReader {
 public:
  // `request` must outlive the reader. `start_position`: tokens that the state has consumed before.
  PromptReader(const GenerationRequest& request, uint64_t start_position);

  uint64_t consumed() const { return consumed_; }
  // Tokens of the input that were read so far, consumed or predicted.
  uint64_t tokens_read() const { return read_; }
  uint64_t remaining() const { return to_consume_ - consumed_; }
  bool done() const { return started_ && remaining() == 0; }

  // Appends the next `tokens` of the input to `batch`, to be consumed by `slot`, with the tasks that score
  // them. REQUIRES: !done(), tokens <= remaining(), and tokens > 0 unless there is nothing to consume at all.
  void AppendChunk(uint32_t tokens, int32_t slot, Batch* batch);
  // Where the logits after the last token of that chunk come from, for the draw of the first output token.
  LogitsTask AfterChunk() const { return after_; }
  // How many tasks that chunk appended.
  size_t tasks() const { return tasks_; }
  // The scores of that chunk, from the results of its tasks in order. REQUIRES: all are finite.
  std::vector<TokenLogprob> TakeScores(std::span<const LogitsResult> results);

  // Whether every scored token so far was the most likely one.
  bool is_greedy() const { return is_greedy_; }

 private:
  uint32_t TokenAt(uint64_t index) const;
  void AddTask(LogitsSource source, uint32_t index, uint64_t target, Batch* batch);

  const GenerationRequest* request_;
  uint64_t start_position_;
  uint64_t input_size_;
  uint64_t to_consume_;
  uint64_t first_scored_;  // index of the first input token whose log-probability is wanted
  uint32_t top_logprobs_;

  bool started_ = false;
  uint64_t consumed_ = 0;
  uint64_t read_ = 0;  // by chunks whose scores were taken
  bool is_greedy_ = true;
  // Of the chunk that was appended last.
  size_t tasks_ = 0;
  bool leads_with_none_ = false;  // its first score is the NaN of a token without prediction
  std::vector<uint32_t> targets_;
  LogitsTask after_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SCHEDULE_PROMPT_READER_H_
