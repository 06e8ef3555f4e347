// The fused layer of a GPU through mamba_layer.h, decode step and prompt pass, against fp64 loops. Everything
// that a call may write is compared, in a pool whose every other float is NaN and must stay as it is.
#include "kernels/mamba_layer/mamba_layer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/embedding/embedding.h"
#include "kernels/reference/mamba_layer_ref.h"
#include "tests/support/gpu_layer.h"
#include "tests/support/test_device.h"

namespace mambad::kernels {
namespace {

using reference::MambaLayerPath;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr std::uint16_t kNothing = 0xffff;
constexpr int kLayers = 2;
// Bytes between the tensors of two layers and of two slots, beyond their own.
constexpr std::int64_t kGapFloats = 4;

// ||got - want|| / ||want|| of one layer, which starts from what the kernels gave for the one before. Kernel
// and reference round at the same places, but where their fp32 and fp64 values lie on two sides of a tie: one
// part in 2^8 of a term then differs, of few terms in a sum. (Changing every product of the reference by 3e-7
// moves states and outputs of these shapes by up to 6e-4.)
constexpr double kPoolTolerance = 2e-3;
constexpr double kOutputTolerance = 4e-3;
// Of one element of a slot: a few roundings to bf16. Another's element, of deviation 0.5, is farther off.
constexpr double kElementTolerance = 0x1p-4;

class Distance {
 public:
  void Add(double got, double want) {
    difference_ += (got - want) * (got - want);
    norm_ += want * want;
  }
  double Relative() const { return std::sqrt(difference_ / norm_); }  // NaN stays one

 private:
  double difference_ = 0, norm_ = 0;
};

struct Case {
  const char* name;
  MambaLayerShape shape;
  bool biases = false;
  std::int32_t many_rows = 0;   // a step of them too
  std::int32_t stack_rows = 0;  // all layers of a step of so many rows, or fewer, are one kernel
  std::int32_t vocabulary = 203;
};

const Case kCases[] = {
    {"small", {128, 256, 16, 4, 8}},
    {"biases", {192, 320, 16, 4, 12}, true},
    {"falcon", {128, 256, 16, 4, 24, 1e-6f}},
    {"n8 k3 r7", {128, 192, 8, 3, 7}},
    {"n32 k2", {64, 128, 32, 2, 70}},
    {"falcon 7b", {64, 8192, 16, 4, 256, 1e-6f}},
    // Wide enough for the whole product, its last tiles cut: in_proj's, and with 384 rows a cluster whose
    // second block has none; out_proj's, by 64 rows of x and with 512 by 128, and half a group of squares.
    {"whole", {192, 3136, 16, 4, 12}, false, 384},
    {"groups", {2240, 64, 16, 4, 4}, true, 512},
    // Other widths of the convolution there; 2.8b's tiles of 80 and 160 rows.
    {"whole k3", {64, 5120, 8, 3, 4}, true, 512},
    {"whole k2", {64, 3136, 8, 2, 4}, true},
    {"whole k1", {64, 3136, 8, 1, 4}},
    // A head that takes the whole product, its last tile cut.
    {"whole head", {192, 256, 16, 4, 12}, false, 384, 0, 6007},
    // Long prompts: more slabs in a K segment of x_proj than its ring has stages.
    {"five slabs", {64, 2560, 16, 4, 48}},
    {"seven slabs", {64, 3136, 16, 4, 160}, true},
    // One kernel for all layers, of one and two rows. Blocks with units of the gate alone; three segments of
    // K and the weightless norms; units of 128 rows, one of them half x and half gate.
    {"stack k3", {128, 4288, 16, 3, 20}, false, 0, 2},
    {"stack k2", {192, 4224, 16, 2, 24, 1e-6f}, true, 0, 2},
    {"stack k1", {64, 8512, 16, 1, 8}, true, 0, 2},
    // One kernel for all layers of a step of one row, a part of the layer a block.
    {"row stack", {128, 1536, 16, 4, 20}, false, 0, 1},
    {"row stack k3", {256, 1280, 16, 3, 48}, true, 0, 1},
    {"row stack k1", {128, 256, 16, 1, 9}, true, 0, 1},
    // A shorter last segment of in_proj; the widest dt.
    {"row stack k2", {320, 1536, 16, 2, 64}, true, 0, 1},
    {"130m", {768, 1536, 16, 4, 48}, false, 0, 1},
};

class MambaLayerTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!TestsRunOnGpu()) GTEST_SKIP() << "the fused kernels are a GPU's: set MAMBAD_TEST_DEVICE=cuda";
    device_ = Device::Create({.kind = DeviceKind::kCuda, .threads = 2}).value();
    stream_ = Stream::Create(*device_).value();
    if (const std::string_view why_not = WhyNotFused(*device_, GetParam().shape); !why_not.empty()) {
      GTEST_SKIP() << why_not;
    }
    for (int i = 0; i < kLayers; ++i)
      layers_.emplace_back(*stream_, GetParam().shape, GetParam().biases, random_);
    table_ = NormalBf16(random_, std::int64_t{vocabulary()} * shape().d_model, 1);
    final_norm_ = NormalFloats(random_, shape().d_model, 1, 0.1f);
    final_norm_on_gpu_ = Upload(*stream_, final_norm_);
  }

  const MambaLayerShape& shape() const { return GetParam().shape; }
  std::int32_t vocabulary() const { return GetParam().vocabulary; }
  std::int64_t layer_floats() const {
    return layers_[0].window_elements() + layers_[0].state_elements() + kGapFloats;
  }
  // The layers, the last hidden row, and a gap.
  std::int64_t slot_floats() const { return pool_layers_ * layer_floats() + shape().d_model + kGapFloats; }
  SlotView Window(float* pool, std::int32_t slots, int layer) const {
    return {.base = reinterpret_cast<std::byte*>(pool),
            .slot_stride_bytes = slot_floats() * 4,
            .layer_offset_bytes = layer * layer_floats() * 4,
            .slots = slots,
            .dtype = DType::kBf16};
  }
  SlotView State(float* pool, std::int32_t slots, int layer) const {
    SlotView view = Window(pool, slots, layer);
    view.layer_offset_bytes += layers_[0].window_elements() * 4;
    view.dtype = DType::kF32;
    return view;
  }

  SlotView LastHidden(float* pool, std::int32_t slots) const {
    SlotView view = Window(pool, slots, pool_layers_);
    view.dtype = DType::kF32;
    return view;
  }

  // NaN but in the tensors of `used`.
  std::vector<float> NewPool(std::int32_t slots, const std::vector<std::int32_t>& used) {
    std::vector<float> pool(slots * slot_floats(), kNaN);
    for (const std::int32_t slot : used) {
      if (slot == kNoSlot) continue;
      for (int layer = 0; layer < pool_layers_; ++layer) {
        const auto to = pool.begin() + slot * slot_floats() + layer * layer_floats();
        const auto state = std::ranges::copy(NormalBf16(random_, layers_[0].window_elements(), 0.5f), to).out;
        std::ranges::copy(NormalFloats(random_, layers_[0].state_elements(), 0, 0.5f), state);
      }
    }
    return pool;
  }

  // Every window's elements (window_elements floats) in a pool.
  template <class Visit>
  void ForEachWindow(std::vector<float>* pool, const Visit& visit) const {
    for (size_t slot = 0; slot < pool->size(); slot += slot_floats()) {
      for (int layer = 0; layer < pool_layers_; ++layer)
        visit(std::span(*pool).subspan(slot + layer * layer_floats(), layers_[0].window_elements()));
    }
  }
  // As the kernels take it: the bf16 of a window in the first half of its place, nothing in the second.
  DeviceBuffer UploadPool(std::vector<float> pool) {
    ForEachWindow(&pool, [](std::span<float> window) {
      std::vector<std::uint16_t> halves(2 * window.size(), kNothing);
      std::ranges::transform(window, halves.begin(), FloatToBf16);
      std::memcpy(window.data(), halves.data(), window.size_bytes());
    });
    return Upload(*stream_, pool);
  }
  std::vector<float> DownloadPool(const DeviceBuffer& from, size_t floats) {
    std::vector<float> pool = Download(*stream_, from.as<float>(), floats);
    size_t strays = 0;
    ForEachWindow(&pool, [&](std::span<float> window) {
      std::vector<std::uint16_t> halves(2 * window.size());
      std::memcpy(halves.data(), window.data(), window.size_bytes());
      const auto nothing = std::span(halves).subspan(window.size());
      strays += nothing.size() - std::ranges::count(nothing, kNothing);
      std::ranges::transform(std::span(halves).first(window.size()), window.begin(), Bf16ToFloat);
    });
    EXPECT_EQ(strays, 0u) << "behind windows";
    return pool;
  }

  // `before` (tokens, M) through a layer is `after`: token t advances slots[t], in order, in `pool`. On a
  // prompt's way what has no slot, and what lies behind the tokens, stays as it is.
  void ExpectLayer(MambaLayerPath path, int layer, const std::vector<std::int32_t>& slots,
                   const std::vector<float>& before, const std::vector<float>& after,
                   std::vector<double>* pool) {
    const auto M = static_cast<size_t>(shape().d_model);
    Distance distance;
    size_t strays = 0;
    for (size_t token = 0; token * M < before.size(); ++token) {
      const float* const from = before.data() + token * M;
      const float* const to = after.data() + token * M;
      if (token >= slots.size() || slots[token] == kNoSlot) {
        strays += std::memcmp(from, to, std::min(M, before.size() - token * M) * sizeof(float)) != 0;
        continue;
      }
      std::vector<double> want(from, from + M);
      double* const window = pool->data() + slots[token] * slot_floats() + layer * layer_floats();
      reference::MambaLayerToken(layers_[layer].reference(), path, &want, window,
                                 window + layers_[layer].window_elements());
      for (size_t m = 0; m < M; ++m) distance.Add(to[m], want[m]);
    }
    if (path == MambaLayerPath::kPrompt) {
      EXPECT_EQ(strays, 0u) << "layer " << layer;
    }
    EXPECT_LE(distance.Relative(), kOutputTolerance) << "layer " << layer;
  }

  // What was NaN before has the same bits; the rest is near `want`, as a whole and each.
  static void ExpectPool(const std::vector<float>& before, const std::vector<float>& after,
                         const std::vector<double>& want) {
    Distance distance;
    size_t strays = 0, far = 0;
    for (size_t i = 0; i < before.size(); ++i) {
      if (!std::isnan(before[i])) {
        distance.Add(after[i], want[i]);
        far += !(std::abs(after[i] - want[i]) <= kElementTolerance * (1 + std::abs(want[i])));
      } else {
        strays += std::memcmp(&before[i], &after[i], sizeof(float)) != 0;
      }
    }
    EXPECT_EQ(strays, 0u);
    EXPECT_EQ(far, 0u);
    EXPECT_LE(distance.Relative(), kPoolTolerance);
  }

  void RunStep(std::int32_t rows);
  void ExpectHead(std::int32_t rows, const PackedLinear& head, const StepBuffers& buffers,
                  const std::vector<std::int32_t>& slot_index);
  void RunPrompt(const std::vector<std::int64_t>& lengths, bool prepares = false,
                 std::vector<float>* bits = nullptr);
  std::vector<MambaLayerStepArgs> StackOf(float* pool, std::int32_t slots, const StepBuffers& buffers,
                                          const std::int32_t* slot_index, std::int32_t rows);

  std::mt19937 random_{20261126};
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::vector<GpuLayer> layers_;
  int pool_layers_ = kLayers;      // tensors of a slot; more layers than weights take those in turns
  std::vector<float> table_;       // (V, M): embedding and head
  std::vector<float> final_norm_;  // (M)
  DeviceBuffer final_norm_on_gpu_;
};

void MambaLayerTest::RunStep(std::int32_t rows) {
  const std::int64_t M = shape().d_model;
  const std::int32_t slots = rows + 9;
  std::vector<std::int32_t> slot_index = RandomSlots(random_, rows, slots);
  for (std::int32_t row = 3; row < rows; row += 5) slot_index[row] = kNoSlot;
  std::vector<std::uint32_t> tokens(rows);
  for (std::uint32_t& token : tokens) token = random_() % vocabulary();
  const std::vector<float> before = NewPool(slots, slot_index);
  const PackedLinear head =
      PackLinear(*device_, {.data = table_.data(), .rows = vocabulary(), .cols = M}, WeightPrecision::kBf16)
          .value();
  const StepWidths widths = {shape().d_model, shape().d_inner, shape().dt_bc_width()};
  const DeviceBuffer pool = UploadPool(before), ids = Upload(*stream_, tokens),
                     index = Upload(*stream_, slot_index),
                     memory = device_->Allocate(StepBufferBytes(rows, widths), "test").value();
  ASSERT_TRUE(FillBytes(*stream_, memory.data(), 0xff, memory.bytes()).ok());
  const StepBuffers buffers = BindStepBuffers(memory.as<std::byte>(), rows, widths);
  ASSERT_TRUE(EmbedStep(*stream_, Embedding::Tied(head),
                        {.tokens = ids.as<std::uint32_t>(),
                         .rows = rows,
                         .norm_weight = layers_[0].norm_weight(),
                         .buffers = buffers})
                  .ok());
  std::vector<float> residual = Download(*stream_, buffers.residual, rows * M);
  for (std::int32_t row = 0; row < rows; ++row) {
    EXPECT_EQ(std::memcmp(&residual[row * M], &table_[tokens[row] * M], M * sizeof(float)), 0);
  }
  std::vector<double> want_pool(before.begin(), before.end());
  for (int layer = 0; layer < kLayers; ++layer) {
    const absl::Status status =
        MambaLayerStep(*stream_, {.shape = shape(),
                                  .weights = layers_[layer].weights(),
                                  .buffers = buffers,
                                  .rows = rows,
                                  .slot_index = index.as<std::int32_t>(),
                                  .window = Window(pool.as<float>(), slots, layer),
                                  .state = State(pool.as<float>(), slots, layer),
                                  .next_norm_weight = layer + 1 < kLayers ? layers_[layer + 1].norm_weight()
                                                                          : final_norm_on_gpu_.as<float>()});
    ASSERT_TRUE(status.ok()) << status;
    const std::vector<float> after = Download(*stream_, buffers.residual, rows * M);
    ExpectLayer(MambaLayerPath::kStep, layer, slot_index, residual, after, &want_pool);
    residual = after;
  }
  ExpectPool(before, DownloadPool(pool, before.size()), want_pool);
  ExpectHead(rows, head, buffers, slot_index);
}

// The logits of the residual rows, and nothing beside them.
void MambaLayerTest::ExpectHead(std::int32_t rows, const PackedLinear& head, const StepBuffers& buffers,
                                const std::vector<std::int32_t>& slot_index) {
  const std::int64_t M = shape().d_model, stride = vocabulary() + 5;
  const std::vector<float> residual = Download(*stream_, buffers.residual, rows * M);
  const DeviceBuffer logits = Upload(*stream_, std::vector<float>((rows + 1) * stride, kNaN));
  ASSERT_TRUE(HeadRows(*stream_, head,
                       {.hidden = buffers.residual,
                        .norm_weight = final_norm_on_gpu_.as<float>(),
                        .norm_eps = 1e-5f,
                        .rows = rows,
                        .buffers = buffers,
                        .logits = logits.as<float>(),
                        .logits_stride = stride})
                  .ok());
  const std::vector<float> scores = Download(*stream_, logits.as<float>(), (rows + 1) * stride);
  Distance distance;
  size_t strays = 0;
  for (std::int32_t row = 0; row <= rows; ++row) {
    for (std::int64_t v = row < rows ? vocabulary() : 0; v < stride; ++v) {
      strays += !std::isnan(scores[row * stride + v]);
    }
    if (row == rows || slot_index[row] == kNoSlot) continue;
    const std::vector<double> hidden(residual.begin() + row * M, residual.begin() + (row + 1) * M);
    const std::vector<double> want = reference::NormedProduct(table_, final_norm_, 1e-5, hidden);
    for (std::int32_t v = 0; v < vocabulary(); ++v) distance.Add(scores[row * stride + v], want[v]);
  }
  EXPECT_EQ(strays, 0u) << "beside the rows of logits";
  EXPECT_LE(distance.Relative(), kOutputTolerance);
}

// `bits`, if not null: the residual rows and the pool that it leaves. Where layers are prepared, these alone
// are looked at.
void MambaLayerTest::RunPrompt(const std::vector<std::int64_t>& lengths, bool prepares,
                               std::vector<float>* bits) {
  const std::int64_t M = shape().d_model;
  const auto chunks = static_cast<std::int64_t>(lengths.size());
  const auto slots = static_cast<std::int32_t>(chunks + 4);
  std::vector<std::int32_t> slot_index = RandomSlots(random_, chunks, slots);
  if (chunks > 3) slot_index[3] = kNoSlot;
  const std::vector<float> before = NewPool(slots, slot_index);
  // Chunks without a slot and what lies behind the last one are NaN.
  std::vector<std::int64_t> offsets = {0};
  std::vector<std::int32_t> token_slots;
  std::vector<float> rows;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    offsets.push_back(offsets.back() + lengths[chunk]);
    token_slots.insert(token_slots.end(), lengths[chunk], slot_index[chunk]);
    const std::vector<float> values = NormalFloats(random_, lengths[chunk] * M, 0, 1);
    rows.insert(rows.end(), values.begin(), values.end());
    if (slot_index[chunk] == kNoSlot) std::fill(rows.end() - lengths[chunk] * M, rows.end(), kNaN);
  }
  constexpr std::int64_t kNobodys = 9;  // tokens behind the last chunk
  rows.insert(rows.end(), kNobodys * M + 512, kNaN);
  const std::int64_t tokens = offsets.back() + kNobodys;
  const DeviceBuffer pool = UploadPool(before), residual = Upload(*stream_, rows),
                     ends = Upload(*stream_, offsets), index = Upload(*stream_, slot_index),
                     workspace =
                         device_->Allocate(MambaLayerPromptBytes(shape(), tokens, chunks), "test").value();
  ASSERT_TRUE(FillBytes(*stream_, workspace.data(), 0xff, workspace.bytes()).ok());
  const PromptChunks prompt = {.tokens = tokens,
                               .chunks = chunks,
                               .offsets = ends.as<std::int64_t>(),
                               .slot_index = index.as<std::int32_t>()};
  ASSERT_TRUE(PlacePromptTokens(*stream_, prompt, workspace.data()).ok());
  std::vector<double> want_pool(before.begin(), before.end());
  for (int layer = 0; layer < kLayers; ++layer) {
    const absl::Status status = MambaLayerPrompt(
        *stream_,
        {.shape = shape(),
         .weights = layers_[layer].weights(),
         .norm_weight = layers_[layer].norm_weight(),
         .next_norm_weight = prepares && layer + 1 < kLayers ? layers_[layer + 1].norm_weight() : nullptr,
         .prepared = prepares && layer > 0,
         .prompt = prompt,
         .residual = residual.as<float>(),
         .window = Window(pool.as<float>(), slots, layer),
         .state = State(pool.as<float>(), slots, layer),
         .workspace = workspace.data()});
    ASSERT_TRUE(status.ok()) << status;
    if (prepares) continue;  // the rows are elsewhere between layers
    const std::vector<float> after = Download(*stream_, residual.as<float>(), rows.size());
    ExpectLayer(MambaLayerPath::kPrompt, layer, token_slots, rows, after, &want_pool);
    rows = after;
  }
  const std::vector<float> pool_after = DownloadPool(pool, before.size());
  if (!prepares) ExpectPool(before, pool_after, want_pool);
  if (bits == nullptr) return;
  *bits = Download(*stream_, residual.as<float>(), rows.size());
  bits->insert(bits->end(), pool_after.begin(), pool_after.end());
}

TEST_P(MambaLayerTest, ADecodeStepOfFewRowsIsThatOfTheReferenceAndWritesNothingElse) {
  for (const std::int32_t rows : {1, 2, 4, 8}) {
    SCOPED_TRACE(rows);
    RunStep(rows);
  }
}

TEST_P(MambaLayerTest, ADecodeStepOfManyRowsIsThatOfTheReferenceAndWritesNothingElse) {
  for (const std::int32_t rows : {24, 48, 96, 192}) {
    SCOPED_TRACE(rows);
    RunStep(rows);
  }
  if (GetParam().many_rows > 0) RunStep(GetParam().many_rows);
}

std::vector<MambaLayerStepArgs> MambaLayerTest::StackOf(float* pool, std::int32_t slots,
                                                        const StepBuffers& buffers,
                                                        const std::int32_t* slot_index, std::int32_t rows) {
  std::vector<MambaLayerStepArgs> stack;
  for (int layer = 0; layer < pool_layers_; ++layer) {
    const bool last = layer + 1 == pool_layers_;
    stack.push_back({.shape = shape(),
                     .weights = layers_[layer % kLayers].weights(),
                     .buffers = buffers,
                     .rows = rows,
                     .slot_index = slot_index,
                     .window = Window(pool, slots, layer),
                     .state = State(pool, slots, layer),
                     .next_norm_weight =
                         last ? final_norm_on_gpu_.as<float>() : layers_[(layer + 1) % kLayers].norm_weight(),
                     .last_hidden = last ? LastHidden(pool, slots) : SlotView{}});
  }
  return stack;
}

// Steps of one and two rows in turns, since each leaves its handed words to the next one's layout.
// Steps without any slot are a device's that runs ahead of a row's end. Slot 6 is poisoned: a word that is
// NaN is a word too.
TEST_P(MambaLayerTest, AStackGivesTheBitsOfItsLayers) {
  constexpr std::int32_t kSlots = 7;
  const std::int64_t M = shape().d_model;
  const StepWidths widths = {shape().d_model, shape().d_inner, shape().dt_bc_width()};
  const PackedLinear head =
      PackLinear(*device_, {.data = table_.data(), .rows = vocabulary(), .cols = M}, WeightPrecision::kBf16)
          .value();
  for (const int layers : {3, 5, 7}) {
    pool_layers_ = layers;
    std::vector<float> before = NewPool(kSlots, {0, 1, 2, 3, 4, 5, 6});
    before[6 * slot_floats() + layers_[0].window_elements()] = std::numeric_limits<float>::infinity();
    DeviceBuffer pools[2], memory[2];
    StepBuffers buffers[2];
    for (int way = 0; way < 2; ++way) {
      pools[way] = UploadPool(before);
      memory[way] = device_->Allocate(StepBufferBytes(kMostStackRows, widths), "test").value();
      ASSERT_TRUE(FillBytes(*stream_, memory[way].data(), 0x7f, memory[way].bytes()).ok());
      buffers[way] = BindStepBuffers(memory[way].as<std::byte>(), kMostStackRows, widths);
    }
    ASSERT_TRUE(ClearHanded(*stream_, buffers[1]).ok());
    for (const std::vector<std::int32_t>& slot_index : {std::vector<std::int32_t>{5},
                                                        {3, 0},
                                                        {6},
                                                        {kNoSlot, 2},
                                                        {1, kNoSlot},
                                                        {kNoSlot},
                                                        {kNoSlot},
                                                        {4, 5},
                                                        {kNoSlot, kNoSlot},
                                                        {2}}) {
      SCOPED_TRACE(testing::PrintToString(layers) + " layers, slots " + testing::PrintToString(slot_index));
      const auto rows = static_cast<std::int32_t>(slot_index.size());
      std::vector<std::uint32_t> tokens(rows);
      for (std::uint32_t& token : tokens) token = random_() % vocabulary();
      const DeviceBuffer ids = Upload(*stream_, tokens), index = Upload(*stream_, slot_index);
      for (int way = 0; way < 2; ++way) {
        ASSERT_TRUE(EmbedStep(*stream_, Embedding::Tied(head),
                              {.tokens = ids.as<std::uint32_t>(),
                               .rows = rows,
                               .norm_weight = layers_[0].norm_weight(),
                               .buffers = buffers[way]})
                        .ok());
        const std::vector<MambaLayerStepArgs> stack =
            StackOf(pools[way].as<float>(), kSlots, buffers[way], index.as<std::int32_t>(), rows);
        absl::Status status;
        if (rows <= GetParam().stack_rows) {
          EXPECT_STREQ(WhyNotMambaStack(stack), nullptr);
        }
        if (way == 1) status = MambaStackStep(*stream_, stack);
        for (const MambaLayerStepArgs& layer : stack) {
          if (way == 0) status.Update(MambaLayerStep(*stream_, layer));
        }
        ASSERT_TRUE(status.ok()) << status;
        ASSERT_TRUE(stream_->Synchronize().ok());
      }
      // Elements that differ, and the first of them.
      const auto expect_same = [&](const char* what, const auto* want, const auto* got, std::int64_t count) {
        const auto wanted = Download(*stream_, want, count), found = Download(*stream_, got, count);
        std::int64_t differing = 0, first = -1;
        for (std::int64_t i = 0; i < count; ++i) {
          if (std::memcmp(&wanted[i], &found[i], sizeof(*want)) == 0) continue;
          if (differing++ == 0) first = i;
        }
        EXPECT_EQ(differing, 0) << what << " from element " << first << " on";
      };
      expect_same("slots", pools[0].as<float>(), pools[1].as<float>(),
                  static_cast<std::int64_t>(before.size()));
      for (std::int32_t row = 0; row < rows; ++row) {
        if (slot_index[row] == kNoSlot) continue;
        expect_same("residual", buffers[0].residual + row * M, buffers[1].residual + row * M, M);
        expect_same("sums of squares", buffers[0].square_sums + row * M / 16,
                    buffers[1].square_sums + row * M / 16, M / 16);
        for (std::int64_t k = 0; k < M; k += 8)
          expect_same("u", buffers[0].u + (k * rows + row * 8), buffers[1].u + (k * rows + row * 8), 8);
      }
    }
  }
  pool_layers_ = kLayers;
}

TEST_P(MambaLayerTest, AWindowThatIsNotBf16IsRefused) {
  const DeviceBuffer pool = UploadPool(NewPool(1, {0}));
  SlotView window = Window(pool.as<float>(), 1, 0);
  window.dtype = DType::kF32;
  const SlotView state = State(pool.as<float>(), 1, 0);
  EXPECT_EQ(MambaLayerStep(*stream_, {.shape = shape(), .rows = 1, .window = window, .state = state}).code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ(MambaLayerPrompt(
                *stream_,
                {.shape = shape(), .prompt = {.tokens = 1, .chunks = 1}, .window = window, .state = state})
                .code(),
            absl::StatusCode::kInternal);
}

TEST_P(MambaLayerTest, APromptPassIsThatOfTheReferenceAndWritesNothingElse) {
  for (const std::vector<std::int64_t>& lengths :
       {std::vector<std::int64_t>{1}, {70}, {3, 0, 41, 1, 17}, {64, 5, 128, 33}}) {
    SCOPED_TRACE(testing::PrintToString(lengths));
    RunPrompt(lengths);
  }
}

// Passes are cut between layers where streams would wait for them.
TEST_P(MambaLayerTest, AnotherLayersPreparationForTheNormChangesNoBit) {
  for (const std::vector<std::int64_t>& lengths : {std::vector<std::int64_t>{1}, {3, 0, 41, 5, 300}}) {
    SCOPED_TRACE(testing::PrintToString(lengths));
    const auto random = random_;
    std::vector<float> prepared, alone;
    RunPrompt(lengths, true, &prepared);
    random_ = random;
    RunPrompt(lengths, false, &alone);
    ASSERT_EQ(prepared.size(), alone.size());
    ASSERT_FALSE(alone.empty());
    EXPECT_EQ(std::memcmp(prepared.data(), alone.data(), alone.size() * sizeof(float)), 0);
  }
}

// Convolution and x_proj are one kernel then: chunks that begin with a tile of 128 tokens, of one or two
// tokens too, without a slot before such a tile, and many in a tile.
TEST_P(MambaLayerTest, ALongPromptPassIsThatOfTheReferenceToo) {
  if (shape().d_model * shape().d_inner > 64 * 3200)
    GTEST_SKIP() << "the loops of the reference would take long";
  RunPrompt({127, 1, 1, 127, 1, 127, 2, 126, 128, 130, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 40});
}

INSTANTIATE_TEST_SUITE_P(, MambaLayerTest, testing::ValuesIn(kCases), [](const auto& info) {
  std::string name = info.param.name;
  std::erase(name, ' ');
  return name;
});

}  // namespace
}  // namespace mambad::kernels
