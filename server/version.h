// The version of the programs, set by the build from the project's version.
#ifndef MAMBAD_SERVER_VERSION_H_
#define MAMBAD_SERVER_VERSION_H_

namespace mambad {

inline constexpr char kVersion[] = MAMBAD_VERSION;

}  // namespace mambad

#endif  // MAMBAD_SERVER_VERSION_H_
