#include "engine/model/state_layout.h"

#include "kernels/base/check.h"
#include "kernels/base/round_up.h"
#include "kernels/base/slots.h"

namespace mambad {
namespace {

constexpr size_t kStrideAlignment = 64;

int64_t ElementsOf(const StateSpec& spec) {
  int64_t elements = 1;
  for (const int64_t extent : spec.shape) elements *= extent;
  return elements;
}

// Calls visit(index in the slot's layer, index in the canonical layer) for every element of one layer.
template <class Visit>
void ForEachElement(const StateSpec& spec, const Visit& visit) {
  if (spec.order == StateOrder::kCanonical) {
    const int64_t elements = ElementsOf(spec);
    for (int64_t i = 0; i < elements; ++i) visit(i, i);
    return;
  }
  MAMBAD_CHECK(spec.shape.size() == 2);
  const int64_t rows = spec.shape[0];
  const int64_t cols = spec.shape[1];
  for (int64_t col = 0; col < cols; ++col) {
    for (int64_t row = 0; row < rows; ++row) visit(col * rows + row, row * cols + col);
  }
}

}  // namespace

StateLayout BuildStateLayout(std::span<const StateSpec> specs, int64_t n_layer, int64_t d_model) {
  StateLayout layout;
  layout.d_model = d_model;
  size_t layer_bytes = 0;
  for (const StateSpec& spec : specs) {
    layout.tensors.push_back({spec, layer_bytes, 0, n_layer});
    const auto elements = static_cast<size_t>(ElementsOf(spec));
    layer_bytes += kernels::RoundUp(elements * kernels::SizeOf(spec.dtype), sizeof(float));
    if (!layout.tensors.back().narrow()) continue;
    MAMBAD_CHECK(spec.dtype == kernels::DType::kBf16 && spec.order == StateOrder::kTransposed);
    MAMBAD_CHECK(!layout.narrow());
    layout.tensors.back().wide_layer_stride = elements * sizeof(float);
    layout.wide_stride =
        kernels::RoundUp(elements * sizeof(float) * static_cast<size_t>(n_layer), kStrideAlignment);
  }
  const size_t first = layout.narrow() ? sizeof(kernels::RoundingKey) : 0;
  for (StateTensor& tensor : layout.tensors) {
    tensor.offset += first;
    tensor.layer_stride = layer_bytes;
  }
  layout.last_hidden_offset = first + layer_bytes * static_cast<size_t>(n_layer);
  layout.bytes = layout.last_hidden_offset + static_cast<size_t>(d_model) * sizeof(float);
  layout.stride = kernels::RoundUp(layout.bytes, kStrideAlignment);
  return layout;
}

void ReadCanonical(const StateTensor& tensor, const std::byte* slot, float* canonical) {
  const int64_t elements = ElementsOf(tensor.spec);
  for (int64_t layer = 0; layer < tensor.n_layer; ++layer) {
    const std::byte* from = slot + tensor.offset + layer * tensor.layer_stride;
    float* to = canonical + layer * elements;
    ForEachElement(tensor.spec, [&](int64_t in_slot, int64_t in_canonical) {
      to[in_canonical] = kernels::LoadAsFloat(from, tensor.spec.dtype, static_cast<size_t>(in_slot));
    });
  }
}

void WriteCanonical(const StateTensor& tensor, const float* canonical, std::byte* slot) {
  const int64_t elements = ElementsOf(tensor.spec);
  for (int64_t layer = 0; layer < tensor.n_layer; ++layer) {
    std::byte* to = slot + tensor.offset + layer * tensor.layer_stride;
    const float* from = canonical + layer * elements;
    ForEachElement(tensor.spec, [&](int64_t in_slot, int64_t in_canonical) {
      if (tensor.spec.dtype == kernels::DType::kBf16) {
        reinterpret_cast<uint16_t*>(to)[in_slot] = kernels::FloatToBf16(from[in_canonical]);
      } else {
        reinterpret_cast<float*>(to)[in_slot] = from[in_canonical];
      }
    });
  }
}

}  // namespace mambad
