// The persistent launch's shared memory, its reductions, and what products need of their input vector.
#pragma once

#define THREADS 512
#define WARPS 16
#define BATCH_OCTETS 256        // octets whose partial sums fit in shared memory at once

struct Shared {                 // fixed part of dynamic shared memory; planes and floats of x follow
    Instruction ring[4];
    float red[WARPS * 2];
    float scalar[8];
    int chosen[MAX_CHOSEN];
    float weight[MAX_CHOSEN];
    float xscale[MAX_CHOSEN];
    float best_value[WARPS];
    int best_index[WARPS];
};

extern __shared__ __align__(16) u8 smem[];

struct Memory {                 // where things lie in dynamic shared memory
    float* part;                // partial sums (BATCH_OCTETS + 16 * MAX_RUNS) * 8
    float* xsum;                // sums of 32-blocks of x
    u32* planes;                // or floats of x
    float* floats;
};

#define MAX_RUNS 8
#define PART_FLOATS ((BATCH_OCTETS + WARPS * MAX_RUNS) * 8)

DEV int blocks_of(int k) { return (k + 255) / 256 * 8; }

// ---- reductions over the block; every thread gets the result -----------------------------------------------------

DEV float block_sum(float v, float* red) {
    v = warp_sum(v);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) red[threadIdx.x >> 5] = v;
    __syncthreads();
    float s = red[threadIdx.x & (WARPS - 1)];
#pragma unroll
    for (int i = WARPS / 2; i; i >>= 1) s += __shfl_xor_sync(FULL, s, i);
    return s;
}
DEV u32 block_max(u32 v, float* red) {
    v = __reduce_max_sync(FULL, v);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) ((u32*)red)[threadIdx.x >> 5] = v;
    __syncthreads();
    return __reduce_max_sync(FULL, ((u32*)red)[threadIdx.x & (WARPS - 1)]);
}

// ---- activations: norm, then fixed point digits ------------------------------------------------------------------

DEV u32 magnitude(float4 v) {
    return max(max(__float_as_uint(v.x) & 0x7fffffffu, __float_as_uint(v.y) & 0x7fffffffu),
               max(__float_as_uint(v.z) & 0x7fffffffu, __float_as_uint(v.w) & 0x7fffffffu));
}

// Digits of four neighbours as words of the four planes; v has at most 30 bits and a sign.
DEV void store_planes(u32* planes, int group, float4 v, float inv) {
    u32 a = (u32)(__float2int_rn(v.x * inv) + 0x00808080) ^ 0x00808080u;
    u32 b = (u32)(__float2int_rn(v.y * inv) + 0x00808080) ^ 0x00808080u;
    u32 c = (u32)(__float2int_rn(v.z * inv) + 0x00808080) ^ 0x00808080u;
    u32 d = (u32)(__float2int_rn(v.w * inv) + 0x00808080) ^ 0x00808080u;
    u32 ab = __byte_perm(a, b, 0x5140), cd = __byte_perm(c, d, 0x5140);
    u32 ef = __byte_perm(a, b, 0x7362), gh = __byte_perm(c, d, 0x7362);
    int w8 = group & 7;
    u32* p = planes + (group >> 3) * BLOCK_WORDS + (w8 & 3) * 8 + (w8 >> 2);
    p[0] = __byte_perm(ab, cd, 0x5410);
    p[2] = __byte_perm(ab, cd, 0x7632);
    p[4] = __byte_perm(ef, gh, 0x5410);
    p[6] = __byte_perm(ef, gh, 0x7632);
}

DEV float4 normed(float4 v, const Instruction& I, int i, float mean, float scale) {
    if (I.norm == NO_NORM) return v;
    float4 w = ((const float4*)I.norm_w)[i];
    if (I.norm == RMS) return make_float4(v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w);
    float4 b = ((const float4*)I.norm_b)[i];
    return make_float4(fmaf((v.x - mean) * scale, w.x, b.x), fmaf((v.y - mean) * scale, w.y, b.y),
                       fmaf((v.z - mean) * scale, w.z, b.z), fmaf((v.w - mean) * scale, w.w, b.w));
}

// Everything the products need of x[k]: planes and their scale, block sums, floats. All threads; ends with a barrier.
CALL float prepare(const Instruction& I, const float* x, const Memory& m, u32* planes, Shared& s) {
    const int k4 = I.k / 4, tid = threadIdx.x;
    float4 r[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        int j = tid + i * THREADS;
        r[i] = j < k4 ? shared_read4(x + 4 * j) : make_float4(0.f, 0.f, 0.f, 0.f);
    }
    float mean = 0.f, scale = 1.f;
    if (I.norm != NO_NORM) {
        float a = 0.f;
        if (I.norm == LAYER) {
#pragma unroll
            for (int i = 0; i < 4; ++i) a += (r[i].x + r[i].y) + (r[i].z + r[i].w);
            for (int j = tid + 4 * THREADS; j < k4; j += THREADS) {
                float4 v = shared_read4(x + 4 * j);
                a += (v.x + v.y) + (v.z + v.w);
            }
            mean = block_sum(a, s.red) / (float)I.k;
            a = 0.f;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (tid + i * THREADS < k4) {
                float4 v = make_float4(r[i].x - mean, r[i].y - mean, r[i].z - mean, r[i].w - mean);
                a = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, a))));
            }
        for (int j = tid + 4 * THREADS; j < k4; j += THREADS) {
            float4 v = shared_read4(x + 4 * j);
            v = make_float4(v.x - mean, v.y - mean, v.z - mean, v.w - mean);
            a = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, a))));
        }
        scale = 1.f / sqrtf(block_sum(a, s.red) / (float)I.k + I.eps);
    }
    u32 largest = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        int j = tid + i * THREADS;
        if (j < k4) {
            r[i] = normed(r[i], I, j, mean, scale);
            largest = max(largest, magnitude(r[i]));
            if (I.flags & 1) ((float4*)m.floats)[j] = r[i];
        }
    }
    for (int j = tid + 4 * THREADS; j < k4; j += THREADS) {
        float4 v = normed(shared_read4(x + 4 * j), I, j, mean, scale);
        largest = max(largest, magnitude(v));
        if (I.flags & 1) ((float4*)m.floats)[j] = v;
    }
    float unit = 1.f;
    if (I.flags & 4) {
        largest = block_max(largest, s.red);
        // A power of two that brings the largest magnitude to 30 bits at most; what is not finite stays so.
        int e = (int)(largest >> 23);
        e = max(e, 40);
        float inv = __uint_as_float((u32)(283 - e) << 23 & 0x7f800000u);       // 2^(29 - (e - 127))
        unit = largest >= 0x7f800000u ? __uint_as_float(0x7fc00000u) : __uint_as_float((u32)(e - 29) << 23);
        if (largest >= 0x7f800000u) inv = 0.f;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            int j = tid + i * THREADS;
            if (j < k4) store_planes(planes, j, r[i], inv);
            if (I.flags & 2) {
                float a = (r[i].x + r[i].y) + (r[i].z + r[i].w);
                a += __shfl_xor_sync(FULL, a, 1);
                a += __shfl_xor_sync(FULL, a, 2);
                a += __shfl_xor_sync(FULL, a, 4);
                if ((tid & 7) == 0 && j < blocks_of(I.k) * 8) m.xsum[j >> 3] = j < k4 ? a : 0.f;
            }
        }
        for (int base = 4 * THREADS; base < k4; base += THREADS) {
            int j = base + tid;
            float4 v = j < k4 ? normed(shared_read4(x + 4 * j), I, j, mean, scale) : make_float4(0.f, 0.f, 0.f, 0.f);
            if (j < k4) store_planes(planes, j, v, inv);
            if (I.flags & 2) {
                float a = (v.x + v.y) + (v.z + v.w);
                a += __shfl_xor_sync(FULL, a, 1);
                a += __shfl_xor_sync(FULL, a, 2);
                a += __shfl_xor_sync(FULL, a, 4);
                if ((tid & 7) == 0 && j < blocks_of(I.k) * 8) m.xsum[j >> 3] = j < k4 ? a : 0.f;
            }
        }
    }
    __syncthreads();
    return unit;
}
