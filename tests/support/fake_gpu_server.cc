// `mambad serve` on the fake GPU:  fake_gpu_server (fail|hang) CALLS
// From the CALLS-th call after its start on the GPU fails, or the first wait does not return.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "server/serve.h"
#include "tests/support/fake_gpu.h"
#include "tests/support/fake_gpu_serving.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const bool hang = std::string_view(argv[1]) == "hang";
  const uint64_t calls = std::strtoull(argv[2], nullptr, 10);
  mambad::ServeOptions options;
  options.model_id = "oracle";
  options.grpc_address = "127.0.0.1:0";
  options.http_address = "127.0.0.1:0";
  options.device_timeout = absl::Milliseconds(300);
  return mambad::RunServe(options, [&](const mambad::ServeOptions& serve) {
    auto serving = mambad::testing::MakeFakeGpuServing(
        {.state_slots = 8, .device_timeout = serve.device_timeout, .seed = 1},
        mambad::OracleModel::Ahead::kLate);
    mambad::FakeGpu& gpu = mambad::Gpu();
    (hang ? gpu.hang_from : gpu.fail_from) = gpu.calls + calls;
    return serving;
  });
}
