// Byte pair encoding of one word.
#ifndef MAMBAD_ENGINE_TEXT_BPE_H_
#define MAMBAD_ENGINE_TEXT_BPE_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace mambad {

// Immutable after construction.
class Bpe {
 public:
  struct Merge {
    uint32_t left, right, merged;
  };

  // Working memory of Encode, so that a text of many words allocates once.
  class Scratch {
    friend class Bpe;
    struct Symbol {
      uint32_t id, previous, next;
    };
    std::vector<Symbol> symbols_;
    std::vector<uint64_t>
        heap_;  // merges that may be done: rank, then position of the left symbol; least in front
  };

  // `merges` in the order of their rank; of equal pairs the last one counts. With `ignore_merges` a word that
  // is a token is that token, whatever the merges would give.
  Bpe(absl::flat_hash_map<std::string, uint32_t> vocabulary, const std::vector<Merge>& merges,
      bool ignore_merges);

  // Appends the ids of `word`, a text of letters of the byte alphabet (byte_alphabet.h), in O(n log n). A
  // letter that is no token is left out, as Hugging Face does without an unk_token.
  void Encode(std::string_view word, Scratch* scratch, std::vector<uint32_t>* ids) const;

  const absl::flat_hash_map<std::string, uint32_t>& vocabulary() const { return vocabulary_; }

 private:
  struct Ranked {
    uint32_t rank, merged;
  };

  const Ranked* Find(uint32_t left, uint32_t right) const;
  void MergeAll(Scratch* scratch) const;
  void PushCandidate(uint32_t position, Scratch* scratch) const;

  absl::flat_hash_map<std::string, uint32_t> vocabulary_;
  absl::flat_hash_map<uint64_t, Ranked> merges_;
  std::vector<uint32_t> merged_of_rank_;
  std::array<uint32_t, 256> byte_token_;  // kNone: the byte's letter is no token
  bool ignore_merges_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_BPE_H_
