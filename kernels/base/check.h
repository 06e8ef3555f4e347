// MAMBAD_CHECK: our own promises. A failed check prints file, line and expression to stderr and aborts;
// whatever the outside world does wrong is an absl::Status instead.
#ifndef MAMBAD_KERNELS_BASE_CHECK_H_
#define MAMBAD_KERNELS_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

#define MAMBAD_CHECK(condition)                                                                        \
  do {                                                                                                 \
    if (!(condition)) [[unlikely]] {                                                                   \
      std::fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #condition);             \
      std::abort();                                                                                    \
    }                                                                                                  \
  } while (0)

// MAMBAD_CHECK in builds without NDEBUG; otherwise compiled but not evaluated.
#ifdef NDEBUG
#define MAMBAD_DCHECK(condition) \
  do {                           \
    (void)sizeof(!(condition));  \
  } while (0)
#else
#define MAMBAD_DCHECK(condition) MAMBAD_CHECK(condition)
#endif

#endif  // MAMBAD_KERNELS_BASE_CHECK_H_
