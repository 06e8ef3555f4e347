#include "engine/text/bpe.h"

#include <map>
#include <random>

#include "engine/text/byte_alphabet.h"
#include "gtest/gtest.h"

namespace mambad {
namespace {

struct Spec {
  absl::flat_hash_map<std::string, uint32_t> vocabulary;
  std::vector<Bpe::Merge> merges;
};

// Letters a to d and random merges of tokens made so far.
Spec RandomSpec(std::mt19937& random, int merge_count) {
  std::vector<std::string> names = {"a", "b", "c", "d"};
  Spec spec;
  for (uint32_t id = 0; id < 4; ++id) spec.vocabulary[names[id]] = id;
  for (int i = 0; i < merge_count; ++i) {
    const uint32_t left = random() % names.size(), right = random() % names.size();
    const std::string name = names[left] + names[right];
    if (spec.vocabulary.contains(name)) continue;  // one way to make each token
    spec.merges.push_back({left, right, static_cast<uint32_t>(names.size())});
    spec.vocabulary[name] = static_cast<uint32_t>(names.size());
    names.push_back(name);
  }
  std::shuffle(spec.merges.begin(), spec.merges.end(), random);
  return spec;
}

// The definition: as long as any pair can merge, do the leftmost one of the lowest rank.
std::vector<uint32_t> NaiveEncode(const Spec& spec, std::string_view word) {
  std::vector<uint32_t> ids;
  for (const char c : word) ids.push_back(static_cast<uint32_t>(c - 'a'));
  std::map<std::pair<uint32_t, uint32_t>, size_t> ranks;
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    ranks[{spec.merges[rank].left, spec.merges[rank].right}] = rank;
  }
  while (true) {
    size_t best_rank = spec.merges.size(), best = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = ranks.find({ids[i], ids[i + 1]});
      if (found != ranks.end() && found->second < best_rank) best_rank = found->second, best = i;
    }
    if (best_rank == spec.merges.size()) return ids;
    ids[best] = spec.merges[best_rank].merged;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

TEST(BpeTest, AgreesWithTheNaiveMerging) {
  std::mt19937 random(9);
  Bpe::Scratch scratch;
  for (int round = 0; round < 500; ++round) {
    const Spec spec = RandomSpec(random, 1 + static_cast<int>(random() % 40));
    const Bpe bpe(spec.vocabulary, spec.merges, false);
    for (int i = 0; i < 20; ++i) {
      std::string word(1 + random() % 40, 'a');
      for (char& c : word) c = static_cast<char>('a' + random() % 4);
      std::vector<uint32_t> ids;
      bpe.Encode(word, &scratch, &ids);
      ASSERT_EQ(ids, NaiveEncode(spec, word)) << word;
    }
  }
}

TEST(BpeTest, TakesAWholeTokenBeforeMergesIfAsked) {
  const absl::flat_hash_map<std::string, uint32_t> vocabulary = {{"a", 0}, {"b", 1}, {"ab", 2}, {"aba", 3}};
  Bpe::Scratch scratch;
  std::vector<uint32_t> ids;
  Bpe(vocabulary, {{0, 1, 2}}, true).Encode("aba", &scratch, &ids);
  Bpe(vocabulary, {{0, 1, 2}}, false).Encode("aba", &scratch, &ids);
  EXPECT_EQ(ids, (std::vector<uint32_t>{3, 2, 0}));
}

TEST(BpeTest, SpellsEveryByteWithOneLetter) {
  std::map<char32_t, int> letters;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t letter = LetterOfByte(static_cast<uint8_t>(byte));
    ++letters[letter];
    EXPECT_EQ(ByteOfLetter(letter), static_cast<uint8_t>(byte));
  }
  EXPECT_EQ(letters.size(), 256u);
  EXPECT_EQ(LetterOfByte(' '), U'\u0120');
  EXPECT_EQ(LetterOfByte('\n'), U'\u010a');
  EXPECT_EQ(ByteOfLetter(U' '), std::nullopt);
  EXPECT_EQ(BytesOfLetters("\u0120a\u00c3\u00a9"), " a\u00e9");
  EXPECT_EQ(BytesOfLetters("a b"), std::nullopt);
}

}  // namespace
}  // namespace mambad
