// XXH3-128 over a sequence of byte strings, each preceded by its length, so that no two sequences collide by
// where they are cut.
#ifndef MAMBAD_ENGINE_MODEL_DIGEST_H_
#define MAMBAD_ENGINE_MODEL_DIGEST_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace mambad {

// Movable; not synchronized.
class Digest {
 public:
  Digest();
  ~Digest();
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;

  void Add(std::span<const std::byte> bytes);
  void Add(std::string_view text);
  // Of everything added so far: 32 lowercase hex digits.
  std::string Hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_DIGEST_H_
