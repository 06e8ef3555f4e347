// The fused decode step: checks it against double, then its bits across buckets, then times whole steps.
//
//   decode_bench check            small and odd shapes against the reference
//   decode_bench bits             a row's bits in every bucket, beside NaN neighbours
//   decode_bench narrow           a step on bf16 states is a step on the widened ones, then a rounding
//   decode_bench time MODEL B...  ms a step and the fraction of the floor; timebf16: with bf16 states
//   decode_bench once MODEL B     one step without a graph, for a profiler
//
// With LAYER_BY_LAYER set in the environment steps of a row or two take the kernels of the others.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/bench/decode_model.cuh"
#include "kernels/bench/decode_reference.cuh"
#include "kernels/mamba_layer/x_proj_fold.h"
#include "kernels/math/state_rounding.h"

namespace mambad::kernels {
namespace {

const ModelShape kModels[] = {
    {"130m", {768, 1536, 16, 4, 48}, 24, 50280, false, -1.0f, 0.258, 0.258, 5.01},
    {"790m", {1536, 3072, 16, 4, 96}, 48, 50280, false, -1.0f, 1.587, 1.58, 20.1},
    {"1.4b", {2048, 4096, 16, 4, 128}, 48, 50280, false, -1.0f, 2.744, 2.74, 26.7},
    {"2.8b", {2560, 5120, 16, 4, 160}, 64, 50280, false, -1.0f, 5.537, 5.53, 44.6},
    {"7b", {4096, 8192, 16, 4, 256}, 64, 65024, false, 1e-6f, 13.99, 13.99, 71.3},
};

bool failed = false;
void Report(bool good, const char* what, const char* name, int rows, double error) {
  if (!good) failed = true;
  if (!good || std::getenv("VERBOSE"))
    std::printf("%s %s %s rows %d: %.3g\n", good ? "ok  " : "FAIL", what, name, rows, error);
}

// ||a - b|| / ||b||; NaN never passes.
struct Distance {
  double difference = 0, norm = 0;
  void Add(double a, double b) { difference += (a - b) * (a - b), norm += b * b; }
  double Relative() const { return std::sqrt(difference / norm); }
};

std::vector<std::int32_t> RandomSlots(int rows, int slots, std::mt19937& random) {
  std::vector<std::int32_t> all(slots);
  for (int i = 0; i < slots; ++i) all[i] = i;
  std::shuffle(all.begin(), all.end(), random);
  all.resize(rows);
  return all;
}

void Check(const ModelShape& shape, int most_rows = kMaxStepRows) {
  if (const char* why_not = WhyNotMambaLayerStep(shape.layer)) {
    std::printf("general path: %s: %s\n", shape.name, why_not);
    return;
  }
  DecodeModel model(shape, most_rows + 88, true);
  const DecodeReference reference(model);
  std::mt19937 random(7);
  double worst = 0;
  for (const int rows : {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512}) {
    if (rows > most_rows) break;
    model.RandomPool();
    const std::vector<float> before = model.Read(model.pool(), model.slot_floats() * model.slots());
    std::vector<std::int32_t> slots = RandomSlots(rows, model.slots(), random);
    std::vector<std::int32_t> tokens(rows);
    for (auto& token : tokens) token = static_cast<int>(random() % shape.vocabulary);
    for (int r = 0; r < rows; ++r)
      if (rows > 1 && r % 5 == 3) slots[r] = kNoSlot;
    model.SetRows(tokens, slots);
    CUDA_OK(cudaMemset(model.logits(), 0xff, std::size_t{4} * rows * shape.vocabulary));
    model.Enqueue(rows, false);
    model.Enqueue(rows, false);
    const std::vector<float> after = model.Read(model.pool(), model.slot_floats() * model.slots());
    const std::vector<float> logits = model.Read(model.logits(), std::int64_t{rows} * shape.vocabulary);
    Distance pool, head;
    std::vector<char> used(model.slots());
    for (int r = 0; r < rows; ++r) {
      if (slots[r] == kNoSlot) continue;
      used[slots[r]] = 1;
      if (r > 20 && r % 13 != 0 && r != rows - 1) continue;
      const std::int64_t base = slots[r] * model.slot_floats();
      std::vector<double> slot = reference.Slot(&before[base]);
      reference.Step(tokens[r], slot.data());
      const std::vector<double> want = reference.Step(tokens[r], slot.data());
      const std::vector<double> got = reference.Slot(&after[base]);
      for (std::size_t i = 0; i < slot.size(); ++i) pool.Add(got[i], slot[i]);
      for (int v = 0; v < shape.vocabulary; ++v)
        head.Add(logits[std::int64_t{r} * shape.vocabulary + v], want[v]);
    }
    bool untouched = true;
    for (int s = 0; s < model.slots(); ++s) {
      const std::int64_t kept = s * model.slot_floats() + (used[s] ? model.state_floats() : 0);
      const std::int64_t end = (s + 1) * model.slot_floats();
      untouched &= std::memcmp(&before[kept], &after[kept], (end - kept) * 4) == 0;
    }
    Report(untouched, "what is no row's state untouched", shape.name, rows, untouched);
    Report(pool.Relative() < 2e-3, "slots", shape.name, rows, pool.Relative());
    Report(head.Relative() < 4e-3, "logits", shape.name, rows, head.Relative());
    worst = std::max({worst, pool.Relative(), head.Relative()});
  }
  std::printf("checked %s, largest relative distance %.2e\n", shape.name, worst);
}

// The slots of a model with bf16 states, as those of one with fp32 states.
std::vector<float> Widened(const std::vector<float>& pool, const DecodeModel& narrow,
                           const DecodeModel& wide) {
  std::vector<float> result(wide.slot_floats() * wide.slots());
  const auto& s = narrow.shape().layer;
  const std::int64_t window = narrow.WindowFloats(), state = std::int64_t{s.d_state} * s.d_inner;
  for (int slot = 0; slot < wide.slots(); ++slot) {
    for (int l = 0; l < narrow.shape().layers; ++l) {
      const float* from = &pool[slot * narrow.slot_floats() + narrow.KeyFloats() + l * narrow.LayerFloats()];
      float* to = &result[slot * wide.slot_floats() + l * wide.LayerFloats()];
      std::copy_n(from, window, to);
      const auto* halves = reinterpret_cast<const std::uint16_t*>(from + window);
      for (std::int64_t i = 0; i < state; ++i) to[window + i] = FromBf16(halves[i]);
    }
  }
  return result;
}

// What a bf16 slot holds after a step that left `wide` in a fp32 one.
std::vector<float> Rounded(std::vector<float> slot, const float* wide, const DecodeModel& narrow,
                           std::int64_t wide_layer_floats) {
  const auto& s = narrow.shape().layer;
  const std::int64_t window = narrow.WindowFloats(), state = std::int64_t{s.d_state} * s.d_inner;
  RoundingKey key;
  std::memcpy(&key, slot.data(), sizeof(key));
  ++key.position;
  for (int l = 0; l < narrow.shape().layers; ++l) {
    const float* from = wide + l * wide_layer_floats;
    float* to = &slot[narrow.KeyFloats() + l * narrow.LayerFloats()];
    std::copy_n(from, window, to);
    auto* halves = reinterpret_cast<std::uint16_t*>(to + window);
    for (std::int64_t i = 0; i < state; ++i)
      halves[i] = RoundStateElement(key, l, i % s.d_inner, i / s.d_inner, from[window + i]);
  }
  return slot;
}

void Narrow(ModelShape shape, int layers) {
  shape.layers = layers;
  const MambaLayerShape& s = shape.layer;
  if (FoldsXProj({.rows = 2 * s.d_inner, .cols = s.d_model}, {.rows = s.dt_bc_width(), .cols = s.d_inner})) {
    std::printf("not compared: %s: x_proj's sums have another order with fp32 states\n", shape.name);
    return;
  }
  DecodeModel narrow(shape, 530, false, true), wide(shape, 530, false);
  std::mt19937 random(11);
  for (const int rows : {1, 2, 4, 8, 16, 24, 32, 64, 128, 512}) {
    narrow.RandomPool();
    const std::vector<float> before = narrow.Read(narrow.pool(), narrow.slot_floats() * narrow.slots());
    const std::vector<float> start = Widened(before, narrow, wide);
    CUDA_OK(cudaMemcpy(wide.pool(), start.data(), start.size() * 4, cudaMemcpyHostToDevice));
    std::vector<std::int32_t> slots = RandomSlots(rows, narrow.slots(), random), tokens(rows);
    for (auto& token : tokens) token = static_cast<int>(random() % shape.vocabulary);
    for (int r = 1; r < rows; r += 5) slots[r] = kNoSlot;
    for (DecodeModel* model : {&narrow, &wide}) {
      model->SetRows(tokens, slots);
      model->Enqueue(rows, false);
    }
    const std::vector<float> after = narrow.Read(narrow.pool(), narrow.slot_floats() * narrow.slots());
    const std::vector<float> stepped = wide.Read(wide.pool(), wide.slot_floats() * wide.slots());
    const std::int64_t V = shape.vocabulary;
    const std::vector<float> logits = narrow.Read(narrow.logits(), rows * V),
                             want = wide.Read(wide.logits(), rows * V);
    std::vector<float> expected = before;
    for (int r = 0; r < rows; ++r) {
      if (slots[r] == kNoSlot) continue;
      Report(std::memcmp(&logits[r * V], &want[r * V], V * 4) == 0, "logits", shape.name, rows, r);
      const std::int64_t at = slots[r] * narrow.slot_floats();
      const std::vector<float> slot =
          Rounded({before.begin() + at, before.begin() + at + narrow.slot_floats()},
                  &stepped[slots[r] * wide.slot_floats()], narrow, wide.LayerFloats());
      std::copy(slot.begin(), slot.end(), expected.begin() + at);
    }
    Report(std::memcmp(after.data(), expected.data(), after.size() * 4) == 0, "pool", shape.name, rows, 0);
  }
  std::printf("bf16 states compared: %s, %d layers\n", shape.name, layers);
}

void Bits(ModelShape shape, int layers, bool narrow) {
  shape.layers = layers;
  DecodeModel model(shape, 1030, false, narrow);
  std::mt19937 random(3);
  const int steps = 2;
  const int V = shape.vocabulary;
  constexpr int kSessions = 5;
  std::vector<std::vector<float>> want_logits, want_slots;
  std::vector<std::int32_t> tokens(kSessions);
  for (auto& token : tokens) token = static_cast<int>(random() % V);
  model.RandomPool();
  const std::vector<float> start = model.Read(model.pool(), model.slot_floats() * kSessions);
  for (int i = 0; i < kSessions; ++i) {
    model.SetRows({tokens[i]}, {i});
    for (int s = 0; s < steps; ++s) model.Enqueue(1, false);
    want_logits.push_back(model.Read(model.logits(), V));
    want_slots.push_back(model.Read(model.pool() + i * model.slot_floats(), model.slot_floats()));
  }
  for (const int rows : {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512}) {
    // Neighbours of NaN; the sessions in random rows and slots.
    CUDA_OK(cudaMemset(model.pool(), 0xff, model.slot_floats() * model.slots() * 4));
    std::vector<std::int32_t> slots = RandomSlots(rows, model.slots(), random);
    std::vector<std::int32_t> at = RandomSlots(std::min(rows, kSessions), rows, random);
    std::vector<std::int32_t> row_tokens(rows);
    for (auto& token : row_tokens) token = static_cast<int>(random() % V);
    for (std::size_t i = 0; i < at.size(); ++i) {
      row_tokens[at[i]] = tokens[i];
      CUDA_OK(cudaMemcpy(model.pool() + slots[at[i]] * model.slot_floats(), &start[i * model.slot_floats()],
                         model.slot_floats() * 4, cudaMemcpyHostToDevice));
    }
    model.SetRows(row_tokens, slots);
    for (int s = 0; s < steps; ++s) model.Enqueue(rows, false);
    for (std::size_t i = 0; i < at.size(); ++i) {
      const auto logits = model.Read(model.logits() + std::int64_t{at[i]} * V, V);
      const auto slot = model.Read(model.pool() + slots[at[i]] * model.slot_floats(), model.slot_floats());
      Report(std::memcmp(logits.data(), want_logits[i].data(), V * 4) == 0, "bits of logits", shape.name,
             rows, i);
      Report(std::memcmp(slot.data(), want_slots[i].data(), slot.size() * 4) == 0, "bits of slot", shape.name,
             rows, i);
    }
  }
  std::printf("bits compared: %s, %d layers%s\n", shape.name, layers, narrow ? ", bf16 states" : "");
}

void Time(const ModelShape& shape, const std::vector<int>& batches, bool narrow) {
  const int most = *std::max_element(batches.begin(), batches.end());
  DecodeModel model(shape, most, false, narrow);
  const auto& s = shape.layer;
  // Half of what a step reads and writes of the states.
  const double saved_mb = narrow ? 2e-6 * 2 * shape.layers * s.d_state * s.d_inner : 0;
  std::mt19937 random(5);
  for (const int rows : batches) {
    model.RandomPool();
    std::vector<std::int32_t> tokens(rows);
    for (auto& token : tokens) token = static_cast<int>(random() % shape.vocabulary);
    model.SetRows(tokens, RandomSlots(rows, most, random));
    cudaGraphExec_t exec = model.Capture(rows);
    cudaEvent_t begin, end;
    CUDA_OK(cudaEventCreate(&begin));
    CUDA_OK(cudaEventCreate(&end));
    constexpr int kSteps = 10;
    std::vector<float> times;
    for (int i = 0; i < 23; ++i) {
      CUDA_OK(cudaEventRecord(begin, model.stream()));
      for (int s = 0; s < kSteps; ++s) CUDA_OK(cudaGraphLaunch(exec, model.stream()));
      CUDA_OK(cudaEventRecord(end, model.stream()));
      CUDA_OK(cudaEventSynchronize(end));
      float ms;
      CUDA_OK(cudaEventElapsedTime(&ms, begin, end));
      if (i >= 3) times.push_back(ms / kSteps);
    }
    std::sort(times.begin(), times.end());
    const double ms = times[times.size() / 2];
    const double floor = std::max(shape.weight_gb / 3.11, rows * shape.gflop / 790) +
                         rows * (shape.state_mb - saved_mb) / 3030;
    std::printf("%-5s%s B %3d  %8.4f ms  (min %.4f max %.4f)  floor %.3f  fraction %.3f\n", shape.name,
                narrow ? " bf16 states" : "", rows, ms, times.front(), times.back(), floor, floor / ms);
    std::fflush(stdout);
    CUDA_OK(cudaGraphExecDestroy(exec));
  }
}

void Once(ModelShape shape, int rows, int layers) {
  shape.layers = layers;
  DecodeModel model(shape, rows, false);
  std::mt19937 random(5);
  model.RandomPool();
  model.SetRows(std::vector<std::int32_t>(rows, 17), RandomSlots(rows, rows, random));
  model.Enqueue(rows, true);
  CUDA_OK(cudaStreamSynchronize(model.stream()));
}

const ModelShape& Find(const std::string& name) {
  for (const ModelShape& shape : kModels)
    if (name == shape.name) return shape;
  std::fprintf(stderr, "no model %s\n", name.c_str());
  std::exit(2);
}

int Main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "check") {
    Check({"small", {128, 256, 16, 4, 8}, 2, 500});
    Check({"biases", {192, 320, 16, 4, 12}, 4, 250, true});
    Check({"falcon", {128, 256, 16, 4, 24}, 2, 250, false, 1e-6f});
    Check({"n8 k3 r7", {128, 192, 8, 3, 7}, 2, 251});
    Check({"n32 k2", {64, 128, 32, 2, 70}, 2, 130});
    Check({"norms apart", {192, 320, 16, 4, 24}, 5, 250, true, 1e-6f});
    Check({"wide", {768, 1536, 16, 4, 48}, 1, 1000});
    Check({"8.5 groups", {1088, 192, 16, 4, 12}, 3, 250, true});
    Check({"17.5 groups", {2240, 64, 16, 4, 4}, 2, 250, true});
    Check({"inside of 7b", {64, 8192, 16, 4, 256}, 1, 130, false, 1e-6f}, 8);
    Check({"odd", {100, 200, 16, 4, 7}, 1, 100});
  } else if (what == "bits") {
    for (const bool narrow : {false, true}) {
      Bits(Find("130m"), 3, narrow);
      Bits(Find("1.4b"), 3, narrow);
      Bits(Find("2.8b"), 3, narrow);
      Bits(Find("7b"), 3, narrow);
    }
  } else if (what == "narrow") {
    Narrow({"small", {128, 256, 16, 4, 8}, 2, 500}, 2);
    Narrow({"falcon", {128, 256, 16, 4, 24}, 2, 250, false, 1e-6f}, 2);
    Narrow({"n8 k3 r7", {128, 192, 8, 3, 7}, 2, 251}, 2);
    Narrow({"n32 k2", {64, 128, 32, 2, 70}, 2, 130}, 2);
    Narrow(Find("130m"), 2);
    Narrow(Find("1.4b"), 1);
    Narrow(Find("2.8b"), 1);
  } else if ((what == "time" || what == "timebf16") && argc > 3) {
    std::vector<int> batches;
    for (int i = 3; i < argc; ++i) batches.push_back(std::atoi(argv[i]));
    Time(Find(argv[2]), batches, what == "timebf16");
  } else if (what == "once" && argc > 3) {
    Once(Find(argv[2]), std::atoi(argv[3]), 3);
  } else {
    std::fprintf(stderr, "see the head of decode_bench.cu\n");
    return 2;
  }
  if (failed) std::printf("FAILED\n");
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace mambad::kernels

int main(int argc, char** argv) { return mambad::kernels::Main(argc, argv); }
