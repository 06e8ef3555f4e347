// All layers of a step of one row of a small model in one kernel. A layer has three parts, each of which
// needs all of the one before, and each block has its share of one part in every layer:
//
//   in_proj, norm scale, convolution, SiLU, gate, folded x_proj | dt_proj, state step, gating | out_proj,
//   residual
//
// Blocks hand each other what they find through L2 (handover.cuh; who clears a word, and when:
// stack_step.cuh). While the other parts run, a warp's weights of the next layer come, the first tile as far
// as its registers and as mma.sync takes it, so that a product waits for nothing but its input. What counts
// is the way from a word's arrival to the word that follows from it: a lane completes one value, and all else
// comes behind.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_CUH_

#include <cstddef>
#include <cstdint>

#include "kernels/mamba_layer/row_stack_in_proj.cuh"
#include "kernels/mamba_layer/row_stack_out_proj.cuh"
#include "kernels/mamba_layer/row_stack_part.cuh"
#include "kernels/mamba_layer/row_stack_states.cuh"

namespace mambad::kernels {

// REQUIRES: all blocks run at once.
static __global__ void __maxnreg__(RowStackShape::kMostRegisters)
    StepRowStack(const __grid_constant__ StackArgs args) {
#if __CUDA_ARCH__ >= 900
  using Shape = RowStackShape;
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ __align__(16) RowStackPart::Static statics;
  AllowNextKernel();
  const int words = (offsetof(StackArgs, layer) + args.layers * sizeof(StackLayer)) / 4;
  for (int i = threadIdx.x; i < words; i += Shape::kThreads)
    reinterpret_cast<std::uint32_t*>(shared)[i] = reinterpret_cast<const std::uint32_t*>(&args)[i];
  for (int i = threadIdx.x; i < static_cast<int>(sizeof(statics.sums) / 4); i += Shape::kThreads)
    (&statics.sums[0][0][0][0])[i] = -0.0f;  // absent segments, which change no sum
  __syncthreads();
  const int in_blocks = Shape::InBlocks(args.channels), state_blocks = Shape::StateBlocks(args.channels);
  const int block = static_cast<int>(blockIdx.x);
  if (block < in_blocks) {
    RowStackInProj(shared, statics, block).Run();
  } else if (threadIdx.x / 32 == Shape::kWarps) {  // in_proj alone has work for it
    WaitForPreviousKernel();
  } else if (block < in_blocks + state_blocks) {
    RowStackStates(shared, statics, block - in_blocks).Run();
  } else {
    RowStackOutProj(shared, statics, block - in_blocks - state_blocks).Run();
  }
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_CUH_
