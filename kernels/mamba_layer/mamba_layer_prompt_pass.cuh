// The launches of one layer's prompt pass.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_PROMPT_PASS_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_PROMPT_PASS_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/base/prompt_rows.cuh"
#include "kernels/causal_conv1d/causal_conv1d_prompt.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/linear/core_matrices.h"
#include "kernels/linear/linear_prompt_epilogue.cuh"
#include "kernels/linear/linear_prompt_launch.cuh"
#include "kernels/mamba_layer/conv_x_proj_prompt.cuh"
#include "kernels/mamba_layer/dt_bc_prompt.cuh"
#include "kernels/mamba_layer/mamba_layer_prompt_workspace.cuh"
#include "kernels/mamba_layer/residual_prompt.cuh"
#include "kernels/selective_scan/selective_scan_prompt_launch.cuh"

namespace mambad::kernels {

// `args` must outlive it. Run launches every step in order; the first error ends them.
class LayerPromptPass {
 public:
  LayerPromptPass(const MambaLayerPromptArgs& args, cudaStream_t stream)
      : args_(args),
        shape_(args.shape),
        weights_(args.weights),
        scratch_(args.shape, args.prompt.tokens, args.prompt.chunks, args.workspace),
        tokens_(args.prompt.tokens),
        token_blocks_(PaddedTokens(args.prompt.tokens) / 8),
        stream_(stream) {}

  cudaError_t Run() const {
    if (!args_.prepared) {
      if (const cudaError_t error = Prepare(); error != cudaSuccess) return error;
    }
    for (const auto step : {&LayerPromptPass::InProj, &LayerPromptPass::ConvXProj, &LayerPromptPass::DtBc,
                            &LayerPromptPass::DtProj, &LayerPromptPass::Scan, &LayerPromptPass::OutProj}) {
      const cudaError_t error = (this->*step)();
      if (error != cudaSuccess) return error;
    }
    return args_.next_norm_weight == nullptr ? ResidualRows() : cudaSuccess;
  }

  // Of a layer that the one before has not prepared.
  cudaError_t Prepare() const {
    return LaunchKernel(stream_, PrepareResidualKernel, ResidualLaunch(), Residual(),
                        TokenNormInput{args_.norm_weight, scratch_.u, scratch_.square_sums});
  }
  cudaError_t InProj() const {
    return LinearPrompt(
        stream_, Cores(weights_.in_proj), scratch_.u, tokens_,
        StoreScaledBf16{scratch_.xz,
                        weights_.in_bias,
                        token_blocks_,
                        Unsigned(tokens_),
                        Unsigned(2 * shape_.d_inner),
                        {scratch_.square_sums, token_blocks_ * 8, Int(shape_.d_model), args_.norm_eps}});
  }
  cudaError_t ConvXProj() const {
    const CausalConv1dPrompt conv{scratch_.xz,        scratch_.x,      weights_.conv_weight,
                                  weights_.conv_bias, scratch_.places, DeviceSlots(args_.window),
                                  token_blocks_,      Int(tokens_),    Int(shape_.d_inner),
                                  Int(shape_.d_conv)};
    const StoreSegments segments{scratch_.segments, token_blocks_, Unsigned(scratch_.segment_blocks),
                                 Unsigned(tokens_)};
    const CoreMatrices x_proj = Cores(weights_.x_proj);
    // With few tokens the fused kernel has too few blocks. Same bits.
    constexpr std::int64_t kFewTokens = 512;
    if (tokens_ > kFewTokens && ConvXProjIsFused(conv.width, x_proj, kXProjSegments)) {
      return LaunchConvXProj(stream_, conv, x_proj, kXProjSegments, segments);
    }
    const LaunchShape launch{dim3(Int(token_blocks_ * 8 / kConvTokens), Int(Slabs(shape_.d_inner)))};
    const auto kernel = conv.width == 4 ? CausalConv1dPromptKernel<4> : CausalConv1dPromptKernel<0>;
    if (const cudaError_t error = LaunchKernel(stream_, kernel, launch, conv); error != cudaSuccess)
      return error;
    return ShortLinearPrompt(stream_, x_proj, scratch_.x, tokens_, segments, kXProjSegments);
  }
  cudaError_t DtBc() const {
    static_assert(kXProjSegments <= DtBcPrompt::kMaxSegments);
    const LinearPromptShape x_proj =
        MakeLinearPromptShape(Cores(weights_.x_proj), nullptr, tokens_, kXProjSegments);
    const DtBcPrompt dt_bc{scratch_.segments,
                           scratch_.places,
                           scratch_.dt,
                           scratch_.bc,
                           token_blocks_,
                           x_proj.segments,
                           Int(scratch_.segment_blocks),
                           Int(tokens_),
                           Int(shape_.dt_rank),
                           Int(shape_.d_state),
                           Int(PaddedStateSize(shape_.d_state)),
                           shape_.dt_bc_eps,
                           Scan16::Takes(shape_.d_state, shape_.d_inner)};
    constexpr int kTokens = DtBcPrompt::kTokens;
    const int shared = Int(kTokens * DtBcPrompt::RowStride(scratch_.segment_blocks) * sizeof(float));
    return LaunchKernel(stream_, DtBcPromptKernel,
                        {dim3(Int(token_blocks_ * 8 / kTokens)), DtBcPrompt::kThreads, shared}, dt_bc);
  }
  cudaError_t DtProj() const {
    return ShortLinearPrompt(stream_, Cores(weights_.dt_proj), scratch_.dt, tokens_,
                             StoreDelta{scratch_.delta, weights_.dt_bias, token_blocks_, Unsigned(tokens_),
                                        Unsigned(shape_.d_inner)});
  }
  cudaError_t Scan() const {
    const SelectiveScanPrompt scan{scratch_.xz,
                                   scratch_.x,
                                   scratch_.delta,
                                   scratch_.bc,
                                   weights_.decay_log2,
                                   weights_.skip,
                                   scratch_.y,
                                   args_.prompt.offsets,
                                   args_.prompt.slot_index,
                                   args_.state_index != nullptr ? args_.state_index : args_.prompt.slot_index,
                                   DeviceSlots(args_.state),
                                   DeviceSlots(args_.window),
                                   token_blocks_,
                                   Int(shape_.d_inner),
                                   Int(shape_.d_state),
                                   Int(shape_.d_conv)};
    return LaunchSelectiveScanPrompt(stream_, scan, tokens_, args_.prompt.chunks);
  }
  cudaError_t OutProj() const {
    return LinearPrompt(stream_, Cores(weights_.out_proj), scratch_.y, tokens_,
                        AddToTokens{scratch_.residual,
                                    weights_.out_bias,
                                    scratch_.places,
                                    token_blocks_,
                                    Unsigned(tokens_),
                                    Unsigned(shape_.d_model),
                                    {args_.next_norm_weight, scratch_.u, scratch_.square_sums}});
  }
  // Of a layer that prepares no other.
  cudaError_t ResidualRows() const {
    return LaunchKernel(stream_, ResidualRowsKernel, ResidualLaunch(), Residual());
  }

 private:
  ResidualPrompt Residual() const {
    return {args_.residual, scratch_.residual, scratch_.places,
            token_blocks_,  Int(tokens_),      Int(shape_.d_model)};
  }
  LaunchShape ResidualLaunch() const {
    constexpr std::int64_t kChannels = ResidualLane::kBlockChannels;
    const std::int64_t padded = Slabs(shape_.d_model) * kSlabChannels;
    return {dim3(Int(token_blocks_), Int((padded + kChannels - 1) / kChannels))};
  }
  static CoreMatrices Cores(const PackedWeight& w) { return {w.data, w.rows, w.cols}; }
  static std::int32_t Int(std::int64_t v) { return static_cast<std::int32_t>(v); }
  static std::uint32_t Unsigned(std::int64_t v) { return static_cast<std::uint32_t>(v); }

  const MambaLayerPromptArgs& args_;
  const MambaLayerShape& shape_;
  const MambaLayerWeights& weights_;
  const MambaLayerPromptScratch scratch_;
  const std::int64_t tokens_;
  const std::int64_t token_blocks_;
  const cudaStream_t stream_;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_PROMPT_PASS_CUH_
