// The fused decode step: checks it against double, then its bits across buckets, then times whole steps.
//
//   decode_bench check            small and odd shapes against the reference
//   decode_bench bits             a row's bits in every bucket, beside NaN neighbours
//   decode_bench time MODEL B...  ms a step and the fraction of the floor
//   decode_bench once MODEL B     one step without a graph, for a profiler
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/bench/decode_model.cuh"
#include "kernels/bench/decode_reference.cuh"

namespace mambad::kernels {
namespace {

const ModelShape kModels[] = {
    {"130m", {768, 1536, 16, 4, 48}, 24, 50280, false, -1.0f, 0.258, 0.258, 5.01},
    {"1.4b", {2048, 4096, 16, 4, 128}, 48, 50280, false, -1.0f, 2.744, 2.74, 26.7},
    {"2.8b", {2560, 5120, 16, 4, 160}, 64, 50280, false, -1.0f, 5.537, 5.53, 44.6},
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

void Check(const ModelShape& shape) {
  if (const char* why_not = WhyNotMambaLayerStep(shape.layer)) {
    std::printf("general path: %s: %s\n", shape.name, why_not);
    return;
  }
  DecodeModel model(shape, 600, true);
  const DecodeReference reference(model);
  std::mt19937 random(7);
  double worst = 0;
  for (const int rows : {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512}) {
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
      std::vector<double> slot(before.begin() + base, before.begin() + base + model.slot_floats());
      reference.Step(tokens[r], slot.data());
      const std::vector<double> want = reference.Step(tokens[r], slot.data());
      for (std::int64_t i = 0; i < model.state_floats(); ++i) pool.Add(after[base + i], slot[i]);
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

void Bits(ModelShape shape, int layers) {
  shape.layers = layers;
  DecodeModel model(shape, 1030, false);
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
  std::printf("bits compared: %s, %d layers\n", shape.name, layers);
}

void Time(const ModelShape& shape, const std::vector<int>& batches) {
  const int most = *std::max_element(batches.begin(), batches.end());
  DecodeModel model(shape, most, false);
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
    const double floor =
        std::max(shape.weight_gb / 3.11, rows * shape.gflop / 790) + rows * shape.state_mb / 3030;
    std::printf("%-5s B %3d  %8.4f ms  (min %.4f max %.4f)  floor %.3f  fraction %.3f\n", shape.name, rows,
                ms, times.front(), times.back(), floor, floor / ms);
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
    Check({"biases", {192, 320, 16, 4, 12}, 2, 250, true});
    Check({"falcon", {128, 256, 16, 4, 24}, 2, 250, false, 1e-6f});
    Check({"n8 k3 r7", {128, 192, 8, 3, 7}, 2, 251});
    Check({"n32 k2", {64, 128, 32, 2, 70}, 2, 130});
    Check({"wide", {768, 1536, 16, 4, 48}, 1, 1000});
    Check({"stream", {128, 320, 16, 4, 72}, 2, 250, true});
    Check({"stream r70", {128, 256, 16, 4, 70}, 2, 250, false, 1e-6f});
    Check({"odd", {100, 200, 16, 4, 7}, 1, 100});
  } else if (what == "bits") {
    Bits(Find("130m"), 2);
    Bits(Find("1.4b"), 1);
    Bits(Find("2.8b"), 1);
  } else if (what == "time" && argc > 3) {
    std::vector<int> batches;
    for (int i = 3; i < argc; ++i) batches.push_back(std::atoi(argv[i]));
    Time(Find(argv[2]), batches);
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
