// What every mixer of the registry must do, whatever its inside: the suite runs on a new one without a line
// here. Each is made from the smallest config that names its architecture, with random weights.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model/block.h"
#include "engine/model/mixer.h"
#include "engine/model/model_config.h"
#include "engine/model/random_weights.h"
#include "engine/model/registry.h"
#include "engine/model/weight_loader.h"
#include "gtest/gtest.h"
#include "kernels/base/check.h"
#include "kernels/narrow_state/narrow_state.h"
#include "tests/model/slot_pool.h"

namespace mambad {
namespace {

constexpr int64_t kModelWidth = 40;
constexpr int32_t kSlots = 12;
constexpr unsigned char kSentinel = 0xa5;

// Prompt and step may add in another order: fp32 rounding of sums of some hundred terms of size 1.
constexpr float kPathTolerance = 1e-4f;

// A step that keeps bf16 moves an element of the state, which is below 0.1 here, by less than 2^-7 of itself;
// the moves of 37 steps add up like a random walk.
constexpr float kNarrowTolerance = 5e-3f;

using Rows = TestVector<float>;  // (rows, M)
using Slots = TestVector<int32_t>;
using Offsets = TestVector<int64_t>;

struct Case {
  const MixerEntry* entry;
  kernels::WeightPrecision precision;
  kernels::DType state_dtype = kernels::DType::kF32;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.entry->model_type; }

class MixerConformanceTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const std::string text = absl::StrCat(
        "{\"architectures\": [\"", std::string(GetParam().entry->architecture),
        "\"], \"vocab_size\": 16, \"hidden_size\": ", kModelWidth, ", \"num_hidden_layers\": 2}");
    absl::StatusOr<ModelConfig> config = ParseModelConfig(text, "config.json");
    ASSERT_TRUE(config.ok()) << config.status();
    absl::StatusOr<std::unique_ptr<Mixer>> mixer = GetParam().entry->create(*config, GetParam().state_dtype);
    ASSERT_TRUE(mixer.ok()) << mixer.status();
    mixer_ = *std::move(mixer);
    device_ = *kernels::Device::Create(
        {.kind = TestsRunOnGpu() ? kernels::DeviceKind::kCuda : kernels::DeviceKind::kCpu, .threads = 2});
    stream_ = *kernels::Stream::Create(*device_);
    RandomWeights weights("conformance", config->n_layer, &device_->pool());
    WeightLoader loader(weights, *device_, *stream_, GetParam().precision, nullptr);
    const std::vector<TensorSpec> specs = mixer_->Tensors();
    loader.Select(specs, "");
    ASSERT_TRUE(mixer_->Bind(loader).ok());
    layout_ = BuildStateLayout(mixer_->State(), /*n_layer=*/1, kModelWidth);
  }

  // Inputs as a norm gives them: of size about 1.
  static Rows RandomRows(int64_t rows, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    Rows values(static_cast<size_t>(rows * kModelWidth));
    for (float& value : values) value = normal(random);
    return values;
  }

  MixerCall CallFor(const Rows& u, Rows* residual, SlotPool& pool) {
    const int64_t rows = static_cast<int64_t>(u.size()) / kModelWidth;
    const size_t floats = mixer_->WorkspaceFloats(rows);
    if (workspace_.bytes() < floats * sizeof(float))
      workspace_ = *device_->Allocate(floats * sizeof(float), "workspace");
    // Left over from before, as in the model: nothing may be read before it is written.
    EXPECT_TRUE(kernels::FillBytes(*stream_, workspace_.data(), 0xff, workspace_.bytes()).ok());
    views_.clear();
    for (const StateTensor& tensor : layout_.tensors) views_.push_back(View(tensor, pool));
    return {stream_.get(), u.data(), residual->data(), rows, workspace_.as<float>(), views_};
  }

  kernels::SlotView View(const StateTensor& tensor, SlotPool& pool) const {
    const StateView state = pool.view();
    return {.base = state.base,
            .slot_stride_bytes = static_cast<int64_t>(state.stride),
            .layer_offset_bytes = static_cast<int64_t>(tensor.offset),
            .slots = state.slots,
            .dtype = tensor.spec.dtype};
  }
  static kernels::SlotView WideView(SlotPool& pool) {
    const StateView state = pool.view();
    return {.base = state.wide_base,
            .slot_stride_bytes = static_cast<int64_t>(state.wide_stride),
            .slots = state.wide_slots};
  }

  // What the model does beside the mixer when its state is narrow. Wide slots have the indices of the slots.
  kernels::NarrowStateArgs NarrowArgs(const Slots& slots, SlotPool& pool) const {
    const StateTensor& tensor = layout_.tensors[1];
    EXPECT_TRUE(tensor.narrow());
    return {.narrow = View(tensor, pool),
            .wide = WideView(pool),
            .layers = 1,
            .state_size = tensor.spec.shape[1],
            .channels = tensor.spec.shape[0],
            .rows = static_cast<int64_t>(slots.size()),
            .narrow_slot = slots.data(),
            .wide_slot = slots.data()};
  }
  void AdvanceKeys(const Slots& slots, const int64_t* offsets, SlotPool& pool) {
    if (!layout_.narrow()) return;
    EXPECT_TRUE(kernels::AdvanceKeys(*stream_, {.slots = View(layout_.tensors[1], pool),
                                                .rows = static_cast<int64_t>(slots.size()),
                                                .slot_index = slots.data(),
                                                .offsets = offsets})
                    .ok());
  }

  Rows Step(const Rows& u, const Slots& slots, SlotPool& pool) {
    Rows residual(u.size(), 0.0f);
    const absl::Status status = mixer_->Step(CallFor(u, &residual, pool), slots.data());
    EXPECT_TRUE(status.ok()) << status;
    AdvanceKeys(slots, nullptr, pool);
    EXPECT_TRUE(stream_->Synchronize().ok());
    return residual;
  }

  // Chunks of prompts that begin, or end, with them.
  Rows Prefill(const Rows& u, const Offsets& offsets, const Slots& slots, SlotPool& pool, bool begins = true,
               bool ends = true) {
    Rows residual(u.size(), 0.0f);
    const MixerChunks chunks{static_cast<int64_t>(slots.size()), offsets.data(), slots.data(), slots.data()};
    MixerCall call = CallFor(u, &residual, pool);
    if (layout_.narrow()) {
      views_[1] = WideView(pool);
      call.state = views_;
      if (begins) {
        EXPECT_TRUE(kernels::WidenStates(*stream_, NarrowArgs(slots, pool)).ok());
      }
    }
    const absl::Status status = mixer_->Prefill(call, chunks);
    EXPECT_TRUE(status.ok()) << status;
    AdvanceKeys(slots, offsets.data(), pool);
    if (layout_.narrow() && ends) {
      EXPECT_TRUE(kernels::RoundStates(*stream_, NarrowArgs(slots, pool)).ok());
    }
    EXPECT_TRUE(stream_->Synchronize().ok());
    return residual;
  }

  // Rows [begin, end).
  static Rows Cut(const Rows& rows, int64_t begin, int64_t end) {
    return Rows(rows.begin() + begin * kModelWidth, rows.begin() + end * kModelWidth);
  }
  static void Append(const Rows& more, Rows* rows) { rows->insert(rows->end(), more.begin(), more.end()); }

  static bool SameBits(std::span<const float> a, std::span<const float> b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
  }
  static bool SameBits(std::span<const std::byte> a, std::span<const std::byte> b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
  }

  // A pool whose every byte is a sentinel but for zeroed slots.
  SlotPool SentinelPool(const Slots& zeroed) {
    SlotPool pool(layout_, kSlots);
    std::memset(pool.all().data(), kSentinel, pool.all().size());
    for (const int32_t slot : zeroed) pool.Zero(slot);
    return pool;
  }

  std::unique_ptr<kernels::Device> device_;
  std::unique_ptr<kernels::Stream> stream_;
  std::unique_ptr<Mixer> mixer_;
  StateLayout layout_;
  kernels::DeviceBuffer workspace_;
  std::vector<kernels::SlotView> views_;
};

TEST_P(MixerConformanceTest, PrefillEqualsSteps) {
  constexpr int64_t kTokens = 37;
  const Rows u = RandomRows(kTokens, 1);
  SlotPool by_prefill = SentinelPool({3});
  const Rows prefilled = Prefill(u, {0, kTokens}, {3}, by_prefill);
  SlotPool by_steps = SentinelPool({3});
  Rows stepped;
  for (int64_t t = 0; t < kTokens; ++t) Append(Step(Cut(u, t, t + 1), {3}, by_steps), &stepped);
  float largest = 0;
  const float tolerance = layout_.narrow() ? kNarrowTolerance : kPathTolerance;
  for (size_t i = 0; i < prefilled.size(); ++i) {
    ASSERT_NEAR(prefilled[i], stepped[i], tolerance);
    largest = std::max(largest, std::fabs(prefilled[i]));
  }
  EXPECT_GT(largest, 10 * tolerance);
  for (const StateTensor& tensor : layout_.tensors) {
    std::vector<float> a(static_cast<size_t>(tensor.spec.shape[0] * tensor.spec.shape[1])), b = a;
    ReadCanonical(tensor, by_prefill.slot(3).data(), a.data());
    ReadCanonical(tensor, by_steps.slot(3).data(), b.data());
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance) << tensor.spec.name;
  }
}

TEST_P(MixerConformanceTest, StateMatters) {
  const Rows u = RandomRows(1, 2);
  SlotPool pool = SentinelPool({0, 1});
  Prefill(RandomRows(5, 3), {0, 5}, {1}, pool);
  EXPECT_FALSE(SameBits(Step(u, {0}, pool), Step(u, {1}, pool)));
}

TEST_P(MixerConformanceTest, APromptMaySplitAnywhere) {
  constexpr int64_t kTokens = 23;
  const Rows u = RandomRows(kTokens, 4);
  SlotPool whole_pool = SentinelPool({5});
  const Rows whole = Prefill(u, {0, kTokens}, {5}, whole_pool);
  for (int64_t split = 1; split < kTokens; ++split) {
    SlotPool pool = SentinelPool({5});
    Rows parts = Prefill(Cut(u, 0, split), {0, split}, {5}, pool, /*begins=*/true, /*ends=*/false);
    Append(Prefill(Cut(u, split, kTokens), {0, kTokens - split}, {5}, pool, /*begins=*/false), &parts);
    ASSERT_TRUE(SameBits(parts, whole)) << "split at " << split;
    ASSERT_TRUE(SameBits(pool.slot(5), whole_pool.slot(5))) << "split at " << split;
  }
}

TEST_P(MixerConformanceTest, AStepIsIndependentOfSlotAndNeighbours) {
  const Rows history = RandomRows(6, 5);
  const Rows u = RandomRows(1, 6);
  SlotPool alone = SentinelPool({0});
  Prefill(history, {0, 6}, {0}, alone);
  const Rows expected = Step(u, {0}, alone);
  for (const int32_t rows : {2, 3, 8, 11}) {
    const int32_t place = rows / 2;
    Slots slots;
    for (int32_t i = 0; i < rows; ++i) slots.push_back((i * 5 + rows) % kSlots);
    SlotPool pool = SentinelPool({});
    for (int32_t i = 0; i < rows; ++i) pool.Fill(slots[i], i % 2 == 0 ? 0xff : 0);  // NaN, or empty
    pool.Zero(slots[place]);
    Prefill(history, {0, 6}, {slots[place]}, pool);
    Rows batch = RandomRows(rows, 7);
    std::copy(u.begin(), u.end(), batch.begin() + place * kModelWidth);
    std::fill_n(batch.begin(), place > 0 ? kModelWidth : 0, NAN);
    const Rows out = Step(batch, slots, pool);
    ASSERT_TRUE(SameBits(Cut(out, place, place + 1), expected)) << rows << " rows";
    ASSERT_TRUE(SameBits(pool.slot(slots[place]), alone.slot(0))) << rows << " rows";
  }
}

TEST_P(MixerConformanceTest, AChunkIsIndependentOfSlotAndNeighbours) {
  const Rows u = RandomRows(9, 8);
  SlotPool alone = SentinelPool({0});
  const Rows expected = Prefill(u, {0, 9}, {0}, alone);
  Rows packed = RandomRows(4, 9);
  std::fill(packed.begin(), packed.end(), NAN);
  Append(u, &packed);
  Append(RandomRows(17, 10), &packed);
  SlotPool pool = SentinelPool({7, 2});
  pool.Fill(4, 0xff);
  const Rows out = Prefill(packed, {0, 4, 13, 30}, {4, 7, 2}, pool);
  EXPECT_TRUE(SameBits(Cut(out, 4, 13), expected));
  EXPECT_TRUE(SameBits(pool.slot(7), alone.slot(0)));
}

TEST_P(MixerConformanceTest, LeavesOtherSlotsAlone) {
  SlotPool pool = SentinelPool({1, 6});
  Prefill(RandomRows(7, 11), {0, 3, 7}, {6, 1}, pool);
  Step(RandomRows(2, 12), {1, 6}, pool);
  const SlotPool untouched = SentinelPool({});
  for (int32_t slot = 0; slot < kSlots; ++slot) {
    const std::span<const std::byte> row(pool.view().base + slot * layout_.stride, layout_.stride);
    size_t first = 0;
    // A row's own slot: its last_hidden and what pads it are not the mixer's.
    if (slot == 1 || slot == 6) first = layout_.bytes;
    for (size_t i = first; i < row.size(); ++i)
      ASSERT_EQ(std::to_integer<int>(row[i]), kSentinel) << "slot " << slot << ", byte " << i;
  }
}

TEST_P(MixerConformanceTest, RowsWithoutASlotWriteNothing) {
  SlotPool pool = SentinelPool({3});
  SlotPool alone = SentinelPool({3});
  const Rows u = RandomRows(3, 13);
  const Rows out = Step(u, {kernels::kNoSlot, 3, kernels::kNoSlot}, pool);
  EXPECT_TRUE(SameBits(Cut(out, 1, 2), Step(Cut(u, 1, 2), {3}, alone)));
  EXPECT_TRUE(SameBits(pool.all(), alone.all()));
}

TEST_P(MixerConformanceTest, ACopiedSlotContinuesExactly) {
  SlotPool pool = SentinelPool({2});
  Prefill(RandomRows(8, 14), {0, 8}, {2}, pool);
  pool.Copy(2, 9);
  const Rows u = RandomRows(5, 15);
  const Rows original = Prefill(u, {0, 5}, {2}, pool);
  EXPECT_TRUE(SameBits(Prefill(u, {0, 5}, {9}, pool), original));
  EXPECT_TRUE(SameBits(pool.slot(2), pool.slot(9)));
}

TEST_P(MixerConformanceTest, CanonicalFormRestoresExactly) {
  SlotPool pool = SentinelPool({2});
  Prefill(RandomRows(8, 16), {0, 8}, {2}, pool);
  pool.Zero(4);
  for (const StateTensor& tensor : layout_.tensors) {
    std::vector<float> canonical(
        static_cast<size_t>(tensor.n_layer * tensor.spec.shape[0] * tensor.spec.shape[1]));
    ReadCanonical(tensor, pool.slot(2).data(), canonical.data());
    WriteCanonical(tensor, canonical.data(), pool.slot(4).data());
  }
  const size_t first = layout_.tensors.front().offset, size = layout_.last_hidden_offset - first;
  EXPECT_TRUE(SameBits(pool.slot(2).subspan(first, size), pool.slot(4).subspan(first, size)));
}

TEST_P(MixerConformanceTest, AddsToTheResidual) {
  const Rows u = RandomRows(1, 17);
  SlotPool pool = SentinelPool({0, 1});
  const Rows from_zero = Step(u, {0}, pool);
  Rows residual(kModelWidth, 100.0f);
  ASSERT_TRUE(mixer_->Step(CallFor(u, &residual, pool), Slots{1}.data()).ok());
  ASSERT_TRUE(stream_->Synchronize().ok());
  for (int64_t i = 0; i < kModelWidth; ++i) EXPECT_EQ(residual[i], 100.0f + from_zero[i]);
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const MixerEntry& entry : Mixers()) {
    cases.push_back({&entry, kernels::WeightPrecision::kF32});
    cases.push_back({&entry, kernels::WeightPrecision::kBf16});
    cases.push_back({&entry, kernels::WeightPrecision::kBf16, kernels::DType::kBf16});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Registry, MixerConformanceTest, testing::ValuesIn(Cases()),
                         [](const testing::TestParamInfo<Case>& info) {
                           return std::string(info.param.entry->model_type) +
                                  (info.param.precision == kernels::WeightPrecision::kF32 ? "_f32"
                                                                                          : "_bf16") +
                                  (info.param.state_dtype == kernels::DType::kF32 ? "" : "_narrow");
                         });

}  // namespace
}  // namespace mambad
