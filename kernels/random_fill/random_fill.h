// random_fill: uniform values in [-bound, bound], as bf16, from a key.
//
//   out[i] = bf16(float(w) * (bound * 2^-31)),  w: word i % 4, signed, of Philox4x32-10(key, counter i / 4)
//
// So an element depends on the key and its index alone, and every device makes the same bits.
//
// Errors:  InvalidArgument for negative sizes or a null array.
// Threads: the stream's pool; on a GPU it enqueues and returns. Does not allocate.
// Source:  Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11 (Philox).
#ifndef MAMBAD_KERNELS_RANDOM_FILL_RANDOM_FILL_H_
#define MAMBAD_KERNELS_RANDOM_FILL_RANDOM_FILL_H_

#include "absl/status/status.h"
#include "kernels/device/stream.h"
#include "kernels/random_fill/random_fill_args.h"

namespace mambad::kernels {

absl::Status RandomFill(Stream& stream, const RandomFillArgs& args);
// Into host memory, whatever the device.
void RandomFillOnHost(ThreadPool& pool, const RandomFillArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_RANDOM_FILL_RANDOM_FILL_H_
