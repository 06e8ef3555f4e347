// Cutting a list of candidates to the first ones in the order "largest key first, ties to the lowest id"
// without sorting it: a radix search for the key at which a count or a mass is reached.
#ifndef MAMBAD_KERNELS_SAMPLING_PREFIX_SELECT_H_
#define MAMBAD_KERNELS_SAMPLING_PREFIX_SELECT_H_

#include <cstdint>
#include <span>

#include "kernels/math/lanes.h"

namespace mambad::kernels {

struct Candidate {
  std::uint32_t key;  // OrderedKey of the adjusted logit
  std::int32_t token;
  float weight;
};

// Unsigned order of the keys is the order of the floats (no NaN; -0 equals +0).
MAMBAD_LANE std::uint32_t OrderedKey(float value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(F32x1::Bits(value + 0.0f));
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Both keep the list in ascending order of id (REQUIRES: it is) and return the part that stays.

// The first `count` candidates.
std::span<Candidate> KeepCount(std::span<Candidate> candidates, std::int64_t count);

// The fewest first candidates whose weights add up to at least `mass` (all of them when they never do).
std::span<Candidate> KeepMass(std::span<Candidate> candidates, double mass);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_PREFIX_SELECT_H_
