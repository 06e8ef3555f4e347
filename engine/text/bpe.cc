#include "engine/text/bpe.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <optional>

#include "absl/strings/string_view.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/utf8.h"

namespace mambad {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

uint64_t PairKey(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

}  // namespace

Bpe::Bpe(absl::flat_hash_map<std::string, uint32_t> vocabulary, const std::vector<Merge>& merges,
         bool ignore_merges)
    : vocabulary_(std::move(vocabulary)), ignore_merges_(ignore_merges) {
  merges_.reserve(merges.size());
  merged_of_rank_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    merged_of_rank_.push_back(merge.merged);
    merges_.insert_or_assign(PairKey(merge.left, merge.right),
                             Ranked{static_cast<uint32_t>(rank), merge.merged});
  }
  for (int byte = 0; byte < 256; ++byte) {
    std::string letter;
    AppendUtf8(LetterOfByte(static_cast<uint8_t>(byte)), &letter);
    const auto found = vocabulary_.find(letter);
    byte_token_[byte] = found == vocabulary_.end() ? kNone : found->second;
  }
}

const Bpe::Ranked* Bpe::Find(uint32_t left, uint32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void Bpe::Encode(std::string_view word, Scratch* scratch, std::vector<uint32_t>* ids) const {
  if (ignore_merges_) {
    if (const auto found = vocabulary_.find(absl::string_view(word.data(), word.size()));
        found != vocabulary_.end()) {
      ids->push_back(found->second);
      return;
    }
  }
  std::vector<Scratch::Symbol>& symbols = scratch->symbols_;
  symbols.clear();
  for (size_t i = 0; i < word.size();) {
    const CodePoint letter = CodePointAt(word, i);
    i += letter.bytes;
    const std::optional<uint8_t> byte = ByteOfLetter(letter.value);
    if (!byte || byte_token_[*byte] == kNone) continue;
    const uint32_t at = static_cast<uint32_t>(symbols.size());
    symbols.push_back({byte_token_[*byte], at == 0 ? kNone : at - 1, at + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = kNone;
  MergeAll(scratch);
  for (uint32_t at = 0; at != kNone; at = symbols[at].next) ids->push_back(symbols[at].id);
}

void Bpe::PushCandidate(uint32_t position, Scratch* scratch) const {
  const Scratch::Symbol& symbol = scratch->symbols_[position];
  if (const Ranked* merge = Find(symbol.id, scratch->symbols_[symbol.next].id)) {
    scratch->heap_.push_back(uint64_t{merge->rank} << 32 | position);
  }
}

void Bpe::MergeAll(Scratch* scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch->symbols_;
  std::vector<uint64_t>& heap = scratch->heap_;
  heap.clear();
  for (uint32_t at = 0; at + 1 < symbols.size(); ++at) PushCandidate(at, scratch);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](uint32_t position) {
    const size_t before = heap.size();
    PushCandidate(position, scratch);
    if (heap.size() > before) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint32_t position = static_cast<uint32_t>(heap.back());
    const uint32_t merged = merged_of_rank_[heap.back() >> 32];
    heap.pop_back();
    Scratch::Symbol& left = symbols[position];
    if (left.id == kNone || left.next == kNone) continue;  // merged away, or the last one by now
    Scratch::Symbol& right = symbols[left.next];
    // The neighbours may have changed since the candidate was queued. As in Hugging Face, any merge that
    // gives the same token will do.
    const Ranked* merge = Find(left.id, right.id);
    if (merge == nullptr || merge->merged != merged) continue;
    left.id = merged;
    left.next = right.next;
    right.id = kNone;
    if (left.next != kNone) symbols[left.next].previous = position;
    if (left.previous != kNone) push(left.previous);
    if (left.next != kNone) push(position);
  }
}

}  // namespace mambad
