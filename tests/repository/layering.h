// The include rules of the house: which folder may include which folder and which library.
#ifndef MAMBAD_TESTS_REPOSITORY_LAYERING_H_
#define MAMBAD_TESTS_REPOSITORY_LAYERING_H_

#include <vector>

#include "tests/repository/source_tree.h"

namespace mambad::repository {

// Every #include (and every import of a .proto) that breaks a rule:
//   - each folder includes only the folders and libraries of its row in kRows (layering.cc);
//   - our own files are named from the repository's root, and an unknown library is refused;
//   - no path in a .h, and none anywhere in engine, contains cuda, cublas or cutlass;
//   - CUDA headers only in .cu and .cuh, .cuh only from those, no CUDA type in a .h;
//   - cpp-httplib in one file of the server (it costs seconds to compile).
std::vector<Finding> CheckLayering(const std::vector<SourceFile>& files);

}  // namespace mambad::repository

#endif  // MAMBAD_TESTS_REPOSITORY_LAYERING_H_
