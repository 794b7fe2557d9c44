// Prompt products of one storage type, STORED: see gemm.cuh and, for HOPPER, wide.cuh. Float32 weights are multiplied in float32, exactly; they are small or for tests.
#include "common.cuh"
#include "program.cuh"
#include "units.cuh"
#include "activations.cuh"
#include "gemm.cuh"
#include "wide.cuh"

#if STORED == 0
// One warp a row and four vectors; x is (n, k) float32. Grid: rows / 4, n / 4.
extern "C" __global__ void __launch_bounds__(128) gemm_F32(const float* w, const float* x, const float* bias, const float* residual,
                                                         float* out, int n, int k, int rows, int ldo, int row0, int act) {
    const int lane = threadIdx.x & 31, row = blockIdx.x * 4 + (threadIdx.x >> 5), first = blockIdx.y * 4;
    if (row >= rows) return;
    float sum[4] = {0.f, 0.f, 0.f, 0.f};
    for (int i = lane * 4; i < k; i += 128) {
        const float4 a = *(const float4*)(w + (u64)row * k + i);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const float4 b = *(const float4*)(x + (u64)min(first + j, n - 1) * k + i);
            sum[j] = fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, sum[j]))));
        }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        float v = warp_sum(sum[j]);
        if (lane != 0 || first + j >= n) continue;
        const u64 at = (u64)(first + j) * ldo + row0 + row;
        if (bias) v += bias[row0 + row];
        if (act == GELU) v = gelu(v);
        if (residual) v += residual[at];
        out[at] = v;
    }
}
#elif HOPPER
extern "C" __global__ void __launch_bounds__(WIDE_THREADS, 128 / TOKENS) gemm(const __grid_constant__ GemmArgs A) { gemm_wide<STORED, TOKENS>(A); }
#else
extern "C" __global__ void __launch_bounds__(GEMM_THREADS) gemm(const __grid_constant__ GemmArgs A) { gemm<STORED>(A); }
#endif
