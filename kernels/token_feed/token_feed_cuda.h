// token_feed on a GPU. Arguments were checked. Enqueues and returns.
#ifndef MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_CUDA_H_
#define MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_CUDA_H_

#include "kernels/device/gpu_api.h"
#include "kernels/token_feed/token_feed_args.h"

namespace mambad::kernels {

gpu::Code FeedTokensCuda(void* stream, const TokenFeedArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_CUDA_H_
