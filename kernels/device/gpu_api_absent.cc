#include "kernels/device/gpu_api.h"

namespace mambad::kernels::gpu {

Code Versions(int*, int*) { return kAbsent; }
Code DeviceCount(int*) { return kAbsent; }
Code Select(int) { return kAbsent; }
Code Properties(int, GpuProperties*) { return kAbsent; }
Code FreeBytes(std::uint64_t*) { return kAbsent; }
Code Allocate(void**, std::size_t) { return kAbsent; }
Code Free(void*) { return kAbsent; }
Code AllocatePinned(void**, std::size_t) { return kAbsent; }
Code FreePinned(void*) { return kAbsent; }
Code CreateStream(void**) { return kAbsent; }
Code DestroyStream(void*) { return kAbsent; }
Code Synchronize(void*) { return kAbsent; }
Code Copy(void*, void*, const void*, std::size_t) { return kAbsent; }
Code Fill(void*, void*, int, std::size_t) { return kAbsent; }
Code CreateEvent(void**) { return kAbsent; }
Code DestroyEvent(void*) { return kAbsent; }
Code RecordEvent(void*, void*) { return kAbsent; }
Code WaitForEvent(void*) { return kAbsent; }
Code BeginCapture(void*) { return kAbsent; }
Code EndCapture(void*, void**) { return kAbsent; }
Code LaunchGraph(void*, void*) { return kAbsent; }
Code DestroyGraph(void*) { return kAbsent; }
std::string_view Text(Code) { return "this build has no CUDA kernels"; }

}  // namespace mambad::kernels::gpu
