// Promise P2 over the whole model: logits, samples and state bytes of a row are the same bits alone and in
// any batch, in any slot, beside any neighbour (rows full of NaN included), however its prompt is cut, and
// for any number of threads.
#include <xxhash.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/check.h"
#include "tests/model/slot_pool.h"
#include "tests/model/test_models.h"

namespace mambad {
namespace {

constexpr int32_t kBatchMax = 33;
constexpr int32_t kPoisonMax = 3;
constexpr int32_t kSlots = 48;
constexpr int kDecodeSteps = 18;
constexpr uint32_t kPromptMax = 40;
constexpr uint32_t kChunkMax = 9;
constexpr uint32_t kPromptTokensPerBatch = 256;
constexpr uint64_t kComparisonsWanted = 100'000;  // over all cases
constexpr int32_t kLongRounds = 8;                // with MAMBAD_LONG_TESTS: over a million
constexpr uint64_t kCases = 9;

uint64_t comparisons = 0;

// What a row does: its prompt, then one decode step per token of `decoded`.
struct Sequence {
  std::vector<uint32_t> prompt;
  std::vector<uint32_t> decoded;
  SamplingRow sampling;

  size_t steps() const { return prompt.size() + decoded.size(); }
};

// Of one step of a row. `state` is 0 where a chunk went on.
struct StepHash {
  uint64_t logits = 0;
  uint64_t state = 0;
};

uint64_t HashOf(const void* data, size_t bytes) { return XXH3_64bits(data, bytes); }

// Sequences that run together in one batch; each tick every one of them either decodes or takes a chunk.
class Trial {
 public:
  Trial(MixerModel& model, SlotPool& pool) : model_(model), pool_(pool) {}

  void Add(const Sequence* sequence, int32_t slot) {
    rows_.push_back({sequence, slot, 0, std::vector<StepHash>(sequence->steps())});
  }
  // A slot full of NaN: decodes and reads chunks like the others, and must not be noticed.
  void AddPoison(int32_t slot) { poison_.push_back(slot); }

  // `chunk` gives the next chunk's size, at least 1.
  template <class NextChunk>
  void ToEnd(const NextChunk& chunk) {
    while (std::any_of(rows_.begin(), rows_.end(), [](const Row& row) { return !row.done(); })) Tick(chunk);
  }

  const std::vector<StepHash>& hashes(size_t row) const { return rows_[row].hashes; }

 private:
  struct Row {
    const Sequence* sequence;
    int32_t slot;
    size_t step;
    std::vector<StepHash> hashes;
    bool done() const { return step == sequence->steps(); }
    bool in_prompt() const { return step < sequence->prompt.size(); }
  };
  // Which step of which row a logits task belongs to.
  struct Asked {
    Row* row;
    size_t step;
  };

  void PlanPrompt(Row& row, size_t tokens) {
    const auto& prompt = row.sequence->prompt;
    const size_t room = kPromptTokensPerBatch - batch_.prompt_tokens.size();
    const size_t count = std::min({tokens, prompt.size() - row.step, room});
    if (count == 0) return;
    const bool begins = row.step == 0;
    BeginChunk(row.slot);
    for (size_t i = 0; i < count; ++i) {
      Ask({LogitsSource::kPromptToken, static_cast<uint32_t>(batch_.prompt_tokens.size())}, row, row.step);
      batch_.prompt_tokens.push_back(prompt[row.step++]);
    }
    EndChunk({row.slot, begins, !row.in_prompt()});
  }

  void BeginChunk(int32_t slot) {
    batch_.chunk_slots.push_back(slot);
    if (batch_.chunk_offsets.empty()) batch_.chunk_offsets.push_back(0);
  }
  void EndChunk(WideChunk wide) {
    batch_.chunk_offsets.push_back(static_cast<uint32_t>(batch_.prompt_tokens.size()));
    if (model_.state_layout().narrow()) batch_.chunk_wide.push_back(wide);
  }

  void PlanDecode(Row& row) {
    Ask({LogitsSource::kDecodeRow, static_cast<uint32_t>(batch_.decode_slots.size()),
         &row.sequence->sampling},
        row, row.step);
    batch_.decode_slots.push_back(row.slot);
    batch_.decode_tokens.push_back(row.sequence->decoded[row.step - row.sequence->prompt.size()]);
    ++row.step;
  }

  void PlanPoison(int32_t slot, bool decode) {
    pool_.Fill(slot, 0xff);
    if (decode) {
      Ask({LogitsSource::kDecodeRow, static_cast<uint32_t>(batch_.decode_slots.size())}, poison_row_, 0);
      batch_.decode_slots.push_back(slot);
      batch_.decode_tokens.push_back(1);
    } else if (batch_.prompt_tokens.size() + 2 <= kPromptTokensPerBatch) {
      BeginChunk(slot);
      batch_.prompt_tokens.insert(batch_.prompt_tokens.end(), {1, 2});
      EndChunk({slot, true, true});
    }
  }

  void Ask(LogitsTask task, Row& row, size_t step) {
    batch_.logits.push_back(task);
    asked_.push_back({&row, step});
  }

  template <class NextChunk>
  void Tick(const NextChunk& chunk) {
    batch_.Clear();
    asked_.clear();
    for (size_t i = 0; i < poison_.size() / 2; ++i) PlanPoison(poison_[i], ticks_ % 2 == 0);
    for (Row& row : rows_) {
      if (row.done()) {
        // An idle session: the head from its slot's last hidden row gives the last step's logits again.
        Ask({LogitsSource::kSlot, static_cast<uint32_t>(row.slot), LastSampling(row)}, row, row.step - 1);
      } else if (row.in_prompt()) {
        PlanPrompt(row, chunk());
      } else {
        PlanDecode(row);
      }
    }
    for (size_t i = poison_.size() / 2; i < poison_.size(); ++i) PlanPoison(poison_[i], ticks_ % 2 != 0);
    ++ticks_;
    Forward();
  }

  // The last step's own sampling row, where that step drew.
  static const SamplingRow* LastSampling(const Row& row) {
    return row.sequence->decoded.empty() ? nullptr : &row.sequence->sampling;
  }

  void Forward() {
    std::vector<uint64_t> logits(batch_.logits.size());
    model_.ObserveLogits([&](size_t task, std::span<const float> row) {
      logits[task] = HashOf(row.data(), row.size_bytes());
    });
    const bool in_parts = ticks_ % 3 == 0 && !batch_.chunk_slots.empty();
    const absl::Status status =
        in_parts ? ForwardInParts(&logits) : model_.Forward(batch_, pool_.view(), &results_);
    ASSERT_TRUE(status.ok()) << status;
    for (size_t i = 0; i < asked_.size(); ++i) {
      if (asked_[i].row == &poison_row_) {
        EXPECT_FALSE(results_[i].finite);
        continue;
      }
      EXPECT_TRUE(results_[i].finite);
      struct {
        uint64_t logits;
        uint32_t token;
        float logprob;
      } seen = {logits[i], 0, 0};
      if (batch_.logits[i].sampling != nullptr) {
        seen.token = results_[i].token;
        seen.logprob = results_[i].logprob;
      }
      StepHash& hash = asked_[i].row->hashes[asked_[i].step];
      const uint64_t now = HashOf(&seen, sizeof(seen));
      if (batch_.logits[i].source == LogitsSource::kSlot) {
        EXPECT_EQ(now, hash.logits);
      } else {
        hash.logits = now;
      }
    }
    for (Row& row : rows_) {
      if (row.step == 0) continue;
      const std::span<const std::byte> state = pool_.slot(row.slot);
      row.hashes[row.step - 1].state = HashOf(state.data(), state.size());
    }
  }

  // The same as Forward, but the decode rows go between the parts of the prompts' pass.
  absl::Status ForwardInParts(std::vector<uint64_t>* logits) {
    Batch steps = batch_, pass = batch_;
    std::vector<size_t> asked_of_steps, asked_of_pass;  // the places of their tasks in batch_
    steps.logits.clear(), pass.logits.clear();
    for (size_t i = 0; i < batch_.logits.size(); ++i) {
      const bool of_pass = batch_.logits[i].source == LogitsSource::kPromptToken;
      (of_pass ? pass : steps).logits.push_back(batch_.logits[i]);
      (of_pass ? asked_of_pass : asked_of_steps).push_back(i);
    }
    steps.chunk_slots.clear(), steps.chunk_offsets.clear(), steps.prompt_tokens.clear();
    steps.chunk_wide.clear(), pass.decode_slots.clear(), pass.decode_tokens.clear();
    const auto run = [&](const std::vector<size_t>& asked, auto&& forward) {
      model_.ObserveLogits([&](size_t task, std::span<const float> row) {
        (*logits)[asked[task]] = HashOf(row.data(), row.size_bytes());
      });
      std::vector<LogitsResult> results;
      const absl::Status status = forward(&results);
      for (size_t i = 0; status.ok() && i < results.size(); ++i) results_[asked[i]] = results[i];
      return status;
    };
    results_.resize(batch_.logits.size());
    const uint32_t middle = model_.parts() / 2;
    absl::Status status = run(asked_of_pass, [&](auto* results) {
      return model_.ForwardParts(pass, pool_.view(), 0, middle, results);
    });
    if (status.ok() && !steps.empty()) {
      status =
          run(asked_of_steps, [&](auto* results) { return model_.Forward(steps, pool_.view(), results); });
    }
    if (!status.ok()) return status;
    return run(asked_of_pass, [&](auto* results) {
      return model_.ForwardParts(pass, pool_.view(), middle, model_.parts(), results);
    });
  }

  MixerModel& model_;
  SlotPool& pool_;
  std::vector<Row> rows_;
  std::vector<int32_t> poison_;
  Row poison_row_ = {nullptr, -1, 0, std::vector<StepHash>(1)};
  size_t ticks_ = 0;
  Batch batch_;
  std::vector<Asked> asked_;
  std::vector<LogitsResult> results_;
};

struct Case {
  std::string name;
  std::string folder;
  Precision precision;
  StateDtype state_dtype = StateDtype::kF32;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class RowIndependenceTest : public testing::TestWithParam<Case> {
 protected:
  static void TearDownTestSuite() {
    std::printf("[ ROWS     ] %llu (row, step) comparisons\n", static_cast<unsigned long long>(comparisons));
  }

  std::vector<Sequence> MakeSequences(std::mt19937& random, int64_t vocab) {
    std::vector<Sequence> sequences(kBatchMax);
    for (size_t i = 0; i < sequences.size(); ++i) {
      Sequence& sequence = sequences[i];
      for (uint32_t n = 1 + random() % kPromptMax; n > 0; --n) sequence.prompt.push_back(random() % vocab);
      for (int n = 0; n < kDecodeSteps; ++n) sequence.decoded.push_back(random() % vocab);
      sequence.sampling.params.temperature = i % 3 == 0 ? 0.0f : 0.9f;
      sequence.sampling.params.top_k = i % 3 == 1 ? 7 : 0;
      sequence.sampling.params.top_p = i % 3 == 2 ? 0.8f : 1.0f;
      sequence.sampling.params.logprob = true;
      sequence.sampling.key.seed = i;
    }
    return sequences;
  }
};

TEST_P(RowIndependenceTest, ARowDependsOnItsOwnSequenceAlone) {
  ForwardLimits limits;
  limits.decode_rows = kBatchMax + kPoisonMax;
  limits.prompt_tokens = kPromptTokensPerBatch;
  const auto solo_model =
      LoadTestModel(GetParam().folder, GetParam().precision, limits, /*threads=*/1, GetParam().state_dtype);
  const auto model =
      LoadTestModel(GetParam().folder, GetParam().precision, limits, /*threads=*/2, GetParam().state_dtype);
  std::mt19937 random(20240611);
  const std::vector<Sequence> sequences = MakeSequences(random, model->info().vocab_size);

  // Alone, in slot 0, one token of the prompt at a time: the state after every token is known.
  std::vector<std::vector<StepHash>> solo;
  for (const Sequence& sequence : sequences) {
    SlotPool pool(solo_model->state_layout(), 1);
    Trial run(*solo_model, pool);
    run.Add(&sequence, 0);
    run.ToEnd([] { return 1; });
    solo.push_back(run.hashes(0));
  }

  const uint64_t compared_before = comparisons;
  SlotPool pool(model->state_layout(), kSlots);
  std::vector<int32_t> slots(kSlots);
  std::iota(slots.begin(), slots.end(), 0);
  std::vector<size_t> order(sequences.size());
  std::iota(order.begin(), order.end(), 0);
  const int32_t rounds = std::getenv("MAMBAD_LONG_TESTS") != nullptr ? kLongRounds : 1;
  for (int32_t turn = 0; turn < rounds * kBatchMax; ++turn) {
    const int32_t batch = 1 + turn % kBatchMax;
    std::shuffle(slots.begin(), slots.end(), random);
    std::shuffle(order.begin(), order.end(), random);
    Trial run(*model, pool);
    for (int32_t i = 0; i < batch; ++i) {
      pool.Zero(slots[i]);
      run.Add(&sequences[order[i]], slots[i]);
    }
    const int32_t poison = batch % (kPoisonMax + 1);
    for (int32_t i = 0; i < poison; ++i) run.AddPoison(slots[batch + i]);
    // Every third batch takes each prompt whole, so that all its rows decode together from the first tick.
    const bool whole = batch % 3 == 0;
    run.ToEnd([&]() -> size_t { return whole ? kPromptMax : 1 + random() % kChunkMax; });
    for (int32_t i = 0; i < batch; ++i) {
      const std::vector<StepHash>& expected = solo[order[i]];
      for (size_t step = 0; step < expected.size(); ++step) {
        ++comparisons;
        ASSERT_EQ(run.hashes(i)[step].logits, expected[step].logits)
            << "logits: batch " << batch << ", row " << i << ", step " << step;
        if (run.hashes(i)[step].state == 0) continue;  // inside a chunk
        ASSERT_EQ(run.hashes(i)[step].state, expected[step].state)
            << "state: batch " << batch << ", row " << i << ", step " << step;
      }
    }
  }
  EXPECT_GE(comparisons - compared_before, static_cast<uint64_t>(rounds) * kComparisonsWanted / kCases);
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const auto& [name, folder] :
       std::vector<std::pair<std::string, std::string>>{{"mamba", "models/tiny-mamba"},
                                                        {"falcon", "models/tiny-falcon-mamba"},
                                                        {"odd", "golden/models/odd-widths"}}) {
    cases.push_back({name + "_f32", TestDataPath(folder), Precision::kF32});
    cases.push_back({name + "_bf16", TestDataPath(folder), Precision::kBf16});
    cases.push_back({name + "_bf16_narrow", TestDataPath(folder), Precision::kBf16, StateDtype::kBf16});
  }
  MAMBAD_CHECK(cases.size() == kCases);
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Models, RowIndependenceTest, testing::ValuesIn(Cases()),
                         [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

}  // namespace
}  // namespace mambad
