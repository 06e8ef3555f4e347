#include "kernels/sampling/prefix_select.h"

#include <array>

namespace mambad::kernels {
namespace {

constexpr int kRadixBits = 11;
constexpr int kBins = 1 << kRadixBits;

// Where the order is cut: all keys above `key` stay, and the first ones equal to it until `rest` is used up.
struct Cut {
  std::uint32_t key;
  double rest;
};

// The cut at which the sum of amount(candidate) reaches `target`; everything stays when it never does.
template <class Amount>
Cut FindCut(std::span<const Candidate> candidates, double target, Amount amount) {
  std::array<double, kBins> sums;
  std::array<bool, kBins> used;
  Cut cut{0, target};
  std::uint32_t mask = 0;
  for (const int shift : {32 - kRadixBits, 32 - 2 * kRadixBits, 0}) {
    sums.fill(0);
    used.fill(false);
    for (const Candidate& candidate : candidates) {
      if ((candidate.key & mask) != cut.key) continue;
      const std::uint32_t bin = (candidate.key >> shift) % kBins;
      sums[bin] += amount(candidate);
      used[bin] = true;
    }
    // Rounding may leave the bins of one bin of the level above just short of the target: then the lowest
    // counts.
    double rest = cut.rest;
    double rest_at_chosen = rest;
    int chosen = 0;
    for (int bin = kBins - 1; bin >= 0 && rest > 0; --bin) {
      if (!used[bin]) continue;
      chosen = bin;
      rest_at_chosen = rest;
      rest -= sums[bin];
    }
    cut.rest = rest_at_chosen;
    cut.key |= static_cast<std::uint32_t>(chosen) << shift;
    mask |= static_cast<std::uint32_t>(kBins - 1) << shift;
  }
  return cut;
}

template <class Amount>
std::span<Candidate> Keep(std::span<Candidate> candidates, double target, Amount amount) {
  const Cut cut = FindCut(candidates, target, amount);
  double rest = cut.rest;
  std::size_t kept = 0;
  for (const Candidate candidate : candidates) {
    if (candidate.key < cut.key) continue;
    if (candidate.key == cut.key) {
      if (rest <= 0) continue;
      rest -= amount(candidate);
    }
    candidates[kept++] = candidate;
  }
  return candidates.first(kept);
}

}  // namespace

std::span<Candidate> KeepCount(std::span<Candidate> candidates, std::int64_t count) {
  if (static_cast<std::int64_t>(candidates.size()) <= count) return candidates;
  return Keep(candidates, static_cast<double>(count), [](const Candidate&) { return 1.0; });
}

std::span<Candidate> KeepMass(std::span<Candidate> candidates, double mass) {
  return Keep(candidates, mass,
              [](const Candidate& candidate) { return static_cast<double>(candidate.weight); });
}

}  // namespace mambad::kernels
