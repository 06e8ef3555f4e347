// row_copy: to[to_index[i]] = from[from_index[i]] for rows of floats.
//
// Slots:    a row whose index on either side is kNoSlot is skipped.
// Aliasing: the rows read and the rows written must not overlap.
// Errors:   InvalidArgument for negative sizes or null tables. The indices are the caller's promise.
// Threads:  the calling one; on a GPU it enqueues and returns. Does not allocate.
#ifndef MAMBAD_KERNELS_ROW_COPY_ROW_COPY_H_
#define MAMBAD_KERNELS_ROW_COPY_ROW_COPY_H_

#include "absl/status/status.h"
#include "kernels/device/stream.h"
#include "kernels/row_copy/row_copy_args.h"

namespace mambad::kernels {

absl::Status CopyRows(Stream& stream, const RowCopyArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_ROW_COPY_ROW_COPY_H_
