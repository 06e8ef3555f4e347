// Reproducible normal deviates for kernel tests.
#ifndef MAMBAD_TESTS_SUPPORT_RANDOM_FLOATS_H_
#define MAMBAD_TESTS_SUPPORT_RANDOM_FLOATS_H_

#include <cstddef>
#include <random>
#include <vector>

namespace mambad {

inline std::vector<float> RandomFloats(std::size_t count, unsigned seed, float mean = 0.0f,
                                       float deviation = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace mambad

#endif  // MAMBAD_TESTS_SUPPORT_RANDOM_FLOATS_H_
