// Times selective_scan, causal_conv1d and rms_norm at the shapes of a model.
//
//   scan_bench [threads] [d_model]
//
// Prefill is given in ns per channel and token (of one thread, when threads is 1), the step also as a
// fraction of the read roof over the state it moves. Steps walk over more slots than the caches hold when B
// is large.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/bench/best_of.h"
#include "kernels/bench/roof.h"
#include "kernels/causal_conv1d/causal_conv1d.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/selective_scan/selective_scan.h"

namespace mambad::kernels {
namespace {

constexpr double kBudgetSeconds = 0.5;

std::vector<float> Normal(std::int64_t count, float mean, float deviation) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// One layer of a Mamba model, with the activations of up to `tokens` tokens and the state of `slots`
// sessions.
class Layer {
 public:
  Layer(Device& device, Stream& stream, std::int64_t M, std::int64_t tokens, std::int32_t slots)
      : stream_(stream),
        M_(M),
        D_(2 * M),
        R_((M + 15) / 16),
        tokens_(tokens),
        decay_(kN * D_),
        skip_(Normal(D_, 1.0f, 0.1f)),
        bias_(Normal(D_, -4.0f, 1.0f)),
        filter_(Normal(kK * D_, 0.0f, 0.5f)),
        xz_(Normal(tokens * 2 * D_, 0.0f, 1.0f)),
        x_(Normal(tokens * D_, 0.0f, 1.0f)),
        delta_(Normal(tokens * D_, 0.0f, 1.0f)),
        dbc_(Normal(tokens * (R_ + 2 * kN), 0.0f, 1.0f)),
        residual_(Normal(tokens * M, 0.0f, 1.0f)),
        y_(tokens * D_),
        slots_(slots),
        slot_index_(slots),
        pool_(device.Allocate(slots * SlotFloats() * sizeof(float), "state pool", Fill::kZero).value()) {
    std::vector<float> a_log(D_ * kN);
    for (std::int64_t i = 0; i < D_ * kN; ++i) a_log[i] = std::log(static_cast<float>(i % kN + 1));
    PackDecay(a_log.data(), D_, kN, decay_.data());
    std::iota(slot_index_.begin(), slot_index_.end(), 0);
  }

  std::int64_t channels() const { return D_; }

  void ScanPrefill() {
    const std::int64_t offsets[] = {0, tokens_};
    MAMBAD_CHECK(SelectiveScanPrefill(stream_, {.params = Params(),
                                                .in = Inputs(),
                                                .y = y_.data(),
                                                .y_stride = D_,
                                                .chunks = 1,
                                                .offsets = offsets,
                                                .slot_index = slot_index_.data(),
                                                .state = State()})
                     .ok());
  }
  // `first` picks the slots, so that repetitions need not find theirs in a cache.
  void ScanStep(std::int64_t rows, std::int64_t first) {
    MAMBAD_CHECK(SelectiveScanStep(stream_, {.params = Params(),
                                             .in = Inputs(),
                                             .y = y_.data(),
                                             .y_stride = D_,
                                             .rows = rows,
                                             .slot_index = &slot_index_[first % (slots_ - rows + 1)],
                                             .state = State()})
                     .ok());
  }
  void ConvPrefill() {
    const std::int64_t offsets[] = {0, tokens_};
    MAMBAD_CHECK(CausalConv1dPrefill(stream_, {.filter = {filter_.data(), skip_.data(), D_, kK, true},
                                               .x = xz_.data(),
                                               .x_stride = 2 * D_,
                                               .y = y_.data(),
                                               .y_stride = D_,
                                               .chunks = 1,
                                               .offsets = offsets,
                                               .slot_index = slot_index_.data(),
                                               .window = Window()})
                     .ok());
  }
  void ConvStep(std::int64_t rows) {
    MAMBAD_CHECK(CausalConv1dStep(stream_, {.filter = {filter_.data(), skip_.data(), D_, kK, true},
                                            .x = xz_.data(),
                                            .x_stride = 2 * D_,
                                            .y = y_.data(),
                                            .y_stride = D_,
                                            .rows = rows,
                                            .slot_index = slot_index_.data(),
                                            .window = Window()})
                     .ok());
  }
  void Norm(std::int64_t rows) {
    MAMBAD_CHECK(RmsNorm(stream_, {.x = residual_.data(),
                                   .x_stride = M_,
                                   .weight = skip_.data(),
                                   .y = y_.data(),
                                   .y_stride = M_,
                                   .rows = rows,
                                   .width = M_})
                     .ok());
  }

  std::int64_t StateBytes() const { return kN * D_ * std::int64_t{sizeof(float)}; }
  static constexpr std::int64_t kN = 16;
  static constexpr std::int32_t kK = 4;

 private:
  std::int64_t SlotFloats() const { return (kK - 1 + kN) * D_; }
  SelectiveScanParams Params() const { return {decay_.data(), bias_.data(), skip_.data(), D_, kN}; }
  SelectiveScanInputs Inputs() const {
    const std::int64_t stride = R_ + 2 * kN;
    return {.x = x_.data(),
            .x_stride = D_,
            .delta_raw = delta_.data(),
            .delta_stride = D_,
            .z = xz_.data() + D_,
            .z_stride = 2 * D_,
            .b = dbc_.data() + R_,
            .c = dbc_.data() + R_ + kN,
            .bc_stride = stride};
  }
  SlotView View(std::int64_t offset_floats) const {
    return {pool_.as<std::byte>(), SlotFloats() * std::int64_t{sizeof(float)},
            offset_floats * std::int64_t{sizeof(float)}, slots_};
  }
  SlotView Window() const { return View(0); }
  SlotView State() const { return View((kK - 1) * D_); }

  Stream& stream_;
  std::int64_t M_, D_, R_, tokens_;
  std::vector<float> decay_, skip_, bias_, filter_, xz_, x_, delta_, dbc_, residual_, y_;
  std::int32_t slots_;
  std::vector<std::int32_t> slot_index_;
  DeviceBuffer pool_;
};

void Main(int threads, std::int64_t M) {
  constexpr std::int64_t kTokens = 256;  // short enough that a run fits a time slice of a shared machine
  const auto device = Device::Create({.threads = threads}).value();
  const auto stream = Stream::Create(*device).value();
  const double roof = MeasureReadRoof(*device).value();
  Layer layer(*device, *stream, M, kTokens, 1024);
  const double pairs = static_cast<double>(kTokens) * layer.channels();
  std::printf("%s, %d threads, D %ld, N %ld: read roof %.1f GB/s\n", device->Architecture().c_str(),
              device->pool().threads(), static_cast<long>(layer.channels()), static_cast<long>(Layer::kN),
              roof);
  std::printf("scan prefill  %5ld tokens   %7.3f ns per channel-token\n", static_cast<long>(kTokens),
              BestOf(kBudgetSeconds, [&](int) { layer.ScanPrefill(); }) / pairs * 1e9);
  std::printf("conv prefill  %5ld tokens   %7.3f ns per channel-token\n", static_cast<long>(kTokens),
              BestOf(kBudgetSeconds, [&](int) { layer.ConvPrefill(); }) / pairs * 1e9);
  std::printf("rms_norm      %5ld rows     %7.3f ns per element\n", static_cast<long>(kTokens),
              BestOf(kBudgetSeconds, [&](int) { layer.Norm(kTokens); }) / (kTokens * M) * 1e9);
  for (const std::int64_t rows : {1, 8, 64, 256}) {
    const double scan = BestOf(kBudgetSeconds, [&](int pass) { layer.ScanStep(rows, pass * rows); });
    const double bytes = 2.0 * rows * layer.StateBytes();
    const double conv = BestOf(kBudgetSeconds / 3, [&](int) { layer.ConvStep(rows); });
    std::printf(
        "step  B %4ld   scan %9.2f us  %6.3f ns per channel  %6.1f GB/s of state (%3.0f%% of roof)   conv "
        "%8.2f us\n",
        static_cast<long>(rows), scan * 1e6, scan / (rows * layer.channels()) * 1e9, bytes / scan * 1e-9,
        bytes / scan * 1e-7 / roof, conv * 1e6);
  }
}

}  // namespace
}  // namespace mambad::kernels

int main(int argc, char** argv) {
  mambad::kernels::Main(argc > 1 ? std::atoi(argv[1]) : 0, argc > 2 ? std::atoll(argv[2]) : 768);
  return 0;
}
