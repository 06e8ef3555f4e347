#include "engine/model/state_layout.h"

#include <numeric>
#include <vector>

#include "gtest/gtest.h"

namespace mambad {
namespace {

const StateSpec kSpecs[] = {{"window", {3, 2}, kernels::DType::kF32, StateOrder::kTransposed},
                            {"sum", {5}, kernels::DType::kF32, StateOrder::kCanonical}};

// `elements` numbers that are bf16, through tensor `index` of a slot.
void ExpectReadsWhatWasWritten(const StateLayout& layout, size_t index, size_t elements) {
  std::vector<std::byte> slot(layout.bytes);
  std::vector<float> canonical(elements), read(elements);
  for (size_t i = 0; i < elements; ++i) canonical[i] = static_cast<float>(i) - 20.5f;
  WriteCanonical(layout.tensors[index], canonical.data(), slot.data());
  ReadCanonical(layout.tensors[index], slot.data(), read.data());
  EXPECT_EQ(read, canonical);
}

TEST(StateLayoutTest, PlacesLayerAfterLayerAndTheHiddenRowLast) {
  const StateLayout layout = BuildStateLayout(kSpecs, /*n_layer=*/4, /*d_model=*/7);
  ASSERT_EQ(layout.tensors.size(), 2u);
  EXPECT_EQ(layout.tensors[0].offset, 0u);
  EXPECT_EQ(layout.tensors[1].offset, 6 * sizeof(float));
  EXPECT_EQ(layout.tensors[1].layer_stride, 11 * sizeof(float));
  EXPECT_EQ(layout.last_hidden_offset, 44 * sizeof(float));
  EXPECT_EQ(layout.bytes, 51 * sizeof(float));
  EXPECT_EQ(layout.stride % 64, 0u);
  EXPECT_GE(layout.stride, layout.bytes);
}

TEST(StateLayoutTest, ANarrowTensorIsHalfAsLargeAndHasAWideForm) {
  const StateSpec specs[] = {{"window", {3, 2}, kernels::DType::kF32, StateOrder::kTransposed},
                             {"state", {3, 5}, kernels::DType::kBf16, StateOrder::kTransposed}};
  const StateLayout layout = BuildStateLayout(specs, /*n_layer=*/4, /*d_model=*/7);
  ASSERT_TRUE(layout.narrow());
  EXPECT_EQ(layout.tensors[0].offset, 16u);  // behind the key
  EXPECT_EQ(layout.tensors[1].offset, 16u + 24u);
  EXPECT_EQ(layout.tensors[1].layer_stride, 24u + 32u);  // 15 halves, rounded up to floats
  EXPECT_EQ(layout.last_hidden_offset, 16u + 4 * 56u);
  EXPECT_EQ(layout.bytes, 16u + 4 * 56u + 28u);
  EXPECT_EQ(layout.tensors[1].wide_layer_stride, 60u);
  EXPECT_EQ(layout.wide_stride, 256u);  // 240, rounded up to 64

  ExpectReadsWhatWasWritten(layout, 1, 4 * 15);
}

TEST(StateLayoutTest, AnExactTensorIsHalfAsLargeAndHasNeitherKeyNorWideForm) {
  const StateSpec specs[] = {
      {"window", {3, 5}, kernels::DType::kBf16, StateOrder::kTransposed, /*exact=*/true},
      {"sum", {5}, kernels::DType::kF32, StateOrder::kCanonical}};
  const StateLayout layout = BuildStateLayout(specs, /*n_layer=*/4, /*d_model=*/7);
  EXPECT_FALSE(layout.narrow());
  EXPECT_EQ(layout.tensors[0].offset, 0u);
  EXPECT_EQ(layout.tensors[1].offset, 32u);  // behind 15 halves, rounded up to floats
  EXPECT_EQ(layout.tensors[1].layer_stride, 52u);
  EXPECT_EQ(layout.last_hidden_offset, 4 * 52u);
  EXPECT_EQ(layout.bytes, 4 * 52u + 28u);
  EXPECT_EQ(layout.PoolBytes(3), 3 * layout.stride);

  ExpectReadsWhatWasWritten(layout, 0, 4 * 15);
}

TEST(StateLayoutTest, AnExactTensorBesideANarrowOneStaysInTheSlot) {
  const StateSpec specs[] = {
      {"window", {6, 2}, kernels::DType::kBf16, StateOrder::kTransposed, /*exact=*/true},
      {"state", {6, 4}, kernels::DType::kBf16, StateOrder::kTransposed}};
  const StateLayout layout = BuildStateLayout(specs, /*n_layer=*/3, /*d_model=*/7);
  EXPECT_TRUE(layout.narrow());
  EXPECT_FALSE(layout.tensors[0].narrow());
  EXPECT_TRUE(layout.tensors[1].narrow());
  EXPECT_EQ(layout.tensors[0].offset, 16u);  // behind the key
  EXPECT_EQ(layout.tensors[1].offset, 16u + 24u);
  EXPECT_EQ(layout.tensors[1].layer_stride, 24u + 48u);
  EXPECT_EQ(layout.tensors[0].wide_layer_stride, 0u);
  EXPECT_EQ(layout.tensors[1].wide_layer_stride, 96u);
  EXPECT_EQ(layout.bytes, 16u + 3 * 72u + 28u);
}

TEST(StateLayoutTest, WideSlotsAreFewAndCountForThePool) {
  StateLayout layout;
  layout.stride = 100;
  EXPECT_EQ(layout.WideSlots(512), 0u);
  EXPECT_EQ(layout.PoolBytes(512), 51200u);
  layout.wide_stride = 150;
  EXPECT_EQ(layout.WideSlots(1), 1u);
  EXPECT_EQ(layout.WideSlots(40), 4u);
  EXPECT_EQ(layout.WideSlots(512), 32u);
  EXPECT_EQ(layout.WideSlots(65536), 64u);
  EXPECT_EQ(layout.PoolBytes(512), 51200u + 32u * 150u);
}

TEST(StateLayoutTest, CanonicalFormPutsChannelsFirst) {
  const StateLayout layout = BuildStateLayout(kSpecs, 2, 1);
  std::vector<float> slot(layout.bytes / sizeof(float));
  std::iota(slot.begin(), slot.end(), 0.0f);
  std::vector<float> window(2 * 6);
  ReadCanonical(layout.tensors[0], reinterpret_cast<const std::byte*>(slot.data()), window.data());
  EXPECT_EQ(window, (std::vector<float>{0, 3, 1, 4, 2, 5, 11, 14, 12, 15, 13, 16}));
  std::vector<float> sum(2 * 5);
  ReadCanonical(layout.tensors[1], reinterpret_cast<const std::byte*>(slot.data()), sum.data());
  EXPECT_EQ(sum, (std::vector<float>{6, 7, 8, 9, 10, 17, 18, 19, 20, 21}));

  std::vector<float> restored(slot.size());
  restored.back() = slot.back();  // the hidden row is no tensor
  WriteCanonical(layout.tensors[0], window.data(), reinterpret_cast<std::byte*>(restored.data()));
  WriteCanonical(layout.tensors[1], sum.data(), reinterpret_cast<std::byte*>(restored.data()));
  EXPECT_EQ(restored, slot);
}

}  // namespace
}  // namespace mambad
