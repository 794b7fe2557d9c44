// A prompt's tokens, many at once: everything but the products (gemm.cu). Compiled for one model, like decode.cu.
#include "common.cuh"
#include "program.cuh"
#include "units.cuh"
#include "activations.cuh"
#include "element.cuh"

#ifndef HEAD_DIM
#define HEAD_DIM 64
#endif
#ifndef GROUP
#define GROUP 1
#endif

// What differs from one pass over the same number of tokens to the next; in device memory, so that launches stay the same.
struct Pass {                   // mirrored by prefill.py
    u8* keys;                   // of the first layer: (n_kv_head, capacity, HEAD_DIM) halves
    u8* values;
    u64 layer_bytes;            // to the next layer's
    int capacity, start;        // start: position of the pass's first token
    int n, pad;                 // tokens; rows behind them are padding

    // A layer's keys or values. Loads through a pointer that was itself loaded are slow unless its space is known.
    DEV u16* of(u8* first, int layer) const {
        u16* p = (u16*)(first + layer * layer_bytes);
        __builtin_assume(__isGlobal(p));
        return p;
    }
};

// out[t] = row tokens[t] of the table (+ row start + t of the positions' table); zeros in rows of padding, which every operation can bear.
extern "C" __global__ void embed_rows(const int* tokens, int type, const u8* table, int type2, const u8* table2, const Pass* pass, int k, float* out) {
    const bool padding = blockIdx.x >= pass->n;
    for (int i = threadIdx.x; i < k; i += blockDim.x) {
        float v = padding ? 0.f : element(type, table, tokens[blockIdx.x], i, k);
        if (table2 && !padding) v += element(type2, table2, pass->start + blockIdx.x, i, k);
        out[(u64)blockIdx.x * k + i] = v;
    }
}

// One block a row: norm, then FP16 under a power of two, permuted as products want it (gemm.cuh, or wide.cuh) and padded with zeros to
// `pitch`; and float32 where asked for. scale[row] is what products must be multiplied by.
extern "C" __global__ void __launch_bounds__(256) prepare_rows(const float* x, int k, int norm, const float* w, const float* b, float eps,
                                                            u16* half, int pitch, float* scale, float* full, int wide) {
    __shared__ float red[8];
    __shared__ u32 tops[8];
    const int tid = threadIdx.x, row = blockIdx.x;
    x += (u64)row * k;
    auto sum_all = [&](float v) {
        v = warp_sum(v);
        __syncthreads();
        if ((tid & 31) == 0) red[tid >> 5] = v;
        __syncthreads();
        float s = 0.f;
        for (int i = 0; i < 8; ++i) s += red[i];
        return s;
    };
    float mean = 0.f, f = 1.f;
    if (norm == LAYER) {
        float s = 0.f;
        for (int i = tid; i < k; i += 256) s += x[i];
        mean = sum_all(s) / (float)k;
    }
    if (norm != NO_NORM) {
        float s = 0.f;
        for (int i = tid; i < k; i += 256) s = fmaf(x[i] - mean, x[i] - mean, s);
        f = 1.f / sqrtf(sum_all(s) / (float)k + eps);
    }
    auto value = [&](int i) {
        float v = x[i];
        if (norm == RMS) v = v * f * w[i];
        if (norm == LAYER) v = fmaf((v - mean) * f, w[i], b[i]);
        return v;
    };
    u32 top = 0;
    for (int i = tid; i < k; i += 256) {
        float v = value(i);
        if (full) full[(u64)row * k + i] = v;
        top = max(top, __float_as_uint(v) & 0x7fffffffu);
    }
    if (!half) return;
    top = __reduce_max_sync(FULL, top);
    if ((tid & 31) == 0) tops[tid >> 5] = top;
    __syncthreads();
    for (int i = 0; i < 8; ++i) top = max(top, tops[i]);
    // The largest becomes 2^11 .. 2^12: far from overflow in sums of products, and far from subnormals.
    const int e = min(max((int)(top >> 23), 30), 250);
    const float up = __uint_as_float((u32)(254 - e + 11) << 23), down = __uint_as_float((u32)(e - 11) << 23);
    if (tid == 0) scale[row] = top >= 0x7f800000u ? __uint_as_float(0x7fc00000u) : down;
    for (int i = tid * 4; i < pitch; i += 1024) {
        uint2 h = make_uint2(0, 0);
        if (i < k) h = make_uint2(to_half2(value(i) * up, value(i + 2) * up), to_half2(value(i + 1) * up, value(i + 3) * up));
        u16* to = half + (u64)row * pitch + i;
        if (!wide) *(uint2*)to = h;
        else {
            to -= (i & 15) >> 1;        // two of eight even weights, and the odd ones eight places on
            *(u32*)to = h.x, *(u32*)(to + 8) = h.y;
        }
    }
}

DEV float rotated_at(const float* x, int j, const float* row, int n_rot, int pairing) {
    if (j >= n_rot) return x[j];
    int half = n_rot / 2, pair = pairing ? (j < half ? j : j - half) : j >> 1;
    bool second = pairing ? j >= half : j & 1;
    float other = x[pairing ? (second ? j - half : j + half) : j ^ 1], c = row[pair], s = row[half + pair];
    return second ? fmaf(x[j], c, other * s) : fmaf(x[j], c, -other * s);
}

struct AttendArgs {             // mirrored by prefill.py
    const float* q;             // rows `ld` apart, before rotation
    const float* k;
    const float* v;
    const float* table;         // 0: no rotation
    u16* q_half;                // (n, n_head, HEAD_DIM), rotated and scaled
    const Pass* pass;
    const float* sinks;
    float* out;                 // (n, n_head * HEAD_DIM)
    int ld, ldk, ldv, n, n_head, n_kv_head, layer, n_rot, pairing, window;
    float scale;
};

// Queries rotated, scaled, to FP16; keys rotated and values to the cache. One block a token.
extern "C" __global__ void rotate_rows(const __grid_constant__ AttendArgs A) {
    const Pass P = *A.pass;
    const int t = blockIdx.x, position = P.start + t;
    if (t >= P.n) return;       // it has no place in the cache
    u16* keys = P.of(P.keys, A.layer);
    u16* values = P.of(P.values, A.layer);
    const float* row = A.table ? A.table + (u64)position * A.n_rot : 0;
    for (int i = threadIdx.x; i < A.n_head * HEAD_DIM; i += blockDim.x) {
        const float* x = A.q + (u64)t * A.ld + i / HEAD_DIM * HEAD_DIM;
        const int j = i % HEAD_DIM;
        A.q_half[(u64)t * A.n_head * HEAD_DIM + i] = to_half((row ? rotated_at(x, j, row, A.n_rot, A.pairing) : x[j]) * A.scale);
    }
    for (int i = threadIdx.x; i < A.n_kv_head * HEAD_DIM; i += blockDim.x) {
        const int h = i / HEAD_DIM, j = i % HEAD_DIM;
        const float* x = A.k + (u64)t * A.ldk + h * HEAD_DIM;
        const u64 at = ((u64)h * P.capacity + position) * HEAD_DIM + j;
        keys[at] = to_half(row ? rotated_at(x, j, row, A.n_rot, A.pairing) : x[j]);
        values[at] = to_half(A.v[(u64)t * A.ldv + i]);
    }
}

#define TILE 64                 // queries of a block, keys of a step
#define PITCH (HEAD_DIM + 8)

DEV void mma_f16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Causal attention over the cache (Dao 2023): a block 64 queries of one head, a warp 16 of them; softmax in float32.
extern "C" __global__ void __launch_bounds__(128) attend_rows(const __grid_constant__ AttendArgs A) {
    extern __shared__ __align__(16) u16 shared[];
    u16* ks = shared;                           // (TILE, PITCH)
    u16* vs = shared + TILE * PITCH;
    const int lane = threadIdx.x & 31, w = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int head = blockIdx.y, kvh = head / GROUP, first = (gridDim.x - 1 - blockIdx.x) * TILE;
    const Pass P = *A.pass;
    const int n = P.n;
    if (first + TILE > n)       // rows of padding
        for (int i = threadIdx.x; i < TILE * HEAD_DIM; i += 128) {
            const int r = first + i / HEAD_DIM;
            if (r >= n && r < A.n) A.out[((u64)r * A.n_head + head) * HEAD_DIM + i % HEAD_DIM] = 0.f;
        }
    if (first >= n) return;
    const u16* keys = P.of(P.keys, A.layer) + (u64)kvh * P.capacity * HEAD_DIM;
    const u16* values = P.of(P.values, A.layer) + (u64)kvh * P.capacity * HEAD_DIM;
    u32 q[HEAD_DIM / 16][4];
    const int r0 = first + w * 16 + g, r1 = r0 + 8;
#pragma unroll
    for (int i = 0; i < HEAD_DIM / 16; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int r = min(j & 1 ? r1 : r0, n - 1);
            q[i][j] = *(const u32*)(A.q_half + ((u64)r * A.n_head + head) * HEAD_DIM + i * 16 + (j >> 1) * 8 + 2 * t);
        }
    float out[HEAD_DIM / 8][4], m[2] = {-1e30f, -1e30f}, l[2] = {0.f, 0.f};
#pragma unroll
    for (int i = 0; i < HEAD_DIM / 8; ++i) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0.f;
    const int p0 = P.start + r0, p1 = P.start + r1;         // absolute positions of this lane's rows
    const int end = min(P.start + first + TILE, P.start + n);
    int begin = 0;
    if (A.window > 0) begin = max(0, P.start + first - A.window + 1) / TILE * TILE;
    for (int base = begin; base < end; base += TILE) {
        __syncthreads();
        for (int i = threadIdx.x; i < TILE * HEAD_DIM / 8; i += 128) {
            const int row = i / (HEAD_DIM / 8), c = i % (HEAD_DIM / 8), at = min(base + row, end - 1);
            *(uint4*)(ks + row * PITCH + c * 8) = *(const uint4*)(keys + (u64)at * HEAD_DIM + c * 8);
            *(uint4*)(vs + row * PITCH + c * 8) = *(const uint4*)(values + (u64)at * HEAD_DIM + c * 8);
        }
        __syncthreads();
        float s[TILE / 8][4];
#pragma unroll
        for (int j = 0; j < TILE / 8; ++j) {
            s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0.f;
#pragma unroll
            for (int i = 0; i < HEAD_DIM / 16; ++i) {
                const u16* p = ks + (j * 8 + g) * PITCH + i * 16 + 2 * t;
                mma_f16(s[j], q[i], *(const u32*)p, *(const u32*)(p + 8));
            }
        }
        float top0 = m[0], top1 = m[1];
#pragma unroll
        for (int j = 0; j < TILE / 8; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const int key = base + j * 8 + 2 * t + e;
                if (key > p0 || (A.window > 0 && key <= p0 - A.window)) s[j][e] = -1e30f;
                if (key > p1 || (A.window > 0 && key <= p1 - A.window)) s[j][2 + e] = -1e30f;
                top0 = fmaxf(top0, s[j][e]), top1 = fmaxf(top1, s[j][2 + e]);
            }
        top0 = fmaxf(top0, __shfl_xor_sync(FULL, top0, 1)), top0 = fmaxf(top0, __shfl_xor_sync(FULL, top0, 2));
        top1 = fmaxf(top1, __shfl_xor_sync(FULL, top1, 1)), top1 = fmaxf(top1, __shfl_xor_sync(FULL, top1, 2));
        const float f0 = expf(m[0] - top0), f1 = expf(m[1] - top1);
        m[0] = top0, m[1] = top1;
        l[0] *= f0, l[1] *= f1;
#pragma unroll
        for (int j = 0; j < TILE / 8; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                s[j][e] = s[j][e] <= -1e30f ? 0.f : __expf(s[j][e] - top0), s[j][2 + e] = s[j][2 + e] <= -1e30f ? 0.f : __expf(s[j][2 + e] - top1);
                l[0] += s[j][e], l[1] += s[j][2 + e];
            }
#pragma unroll
        for (int i = 0; i < HEAD_DIM / 8; ++i) out[i][0] *= f0, out[i][1] *= f0, out[i][2] *= f1, out[i][3] *= f1;
#pragma unroll
        for (int j = 0; j < TILE / 16; ++j) {
            const u32 p[4] = {to_half2(s[2 * j][0], s[2 * j][1]), to_half2(s[2 * j][2], s[2 * j][3]),
                              to_half2(s[2 * j + 1][0], s[2 * j + 1][1]), to_half2(s[2 * j + 1][2], s[2 * j + 1][3])};
#pragma unroll
            for (int i = 0; i < HEAD_DIM / 8; ++i) {
                u32 b0, b1;
                const u32 at = (u32)__cvta_generic_to_shared(vs + (j * 16 + (lane & 15)) * PITCH + i * 8);
                asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(b0), "=r"(b1) : "r"(at));
                mma_f16(out[i], p, b0, b1);
            }
        }
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) {
        l[e] += __shfl_xor_sync(FULL, l[e], 1);
        l[e] += __shfl_xor_sync(FULL, l[e], 2);
        float f = 1.f;
        if (A.sinks) {
            const float sink = A.sinks[head], top = fmaxf(m[e], sink);
            f = expf(m[e] - top);
            l[e] = fmaf(l[e], f, expf(sink - top));
        }
        const int r = e ? r1 : r0;
        if (r >= n) continue;
#pragma unroll
        for (int i = 0; i < HEAD_DIM / 8; ++i)
            *(float2*)(A.out + ((u64)r * A.n_head + head) * HEAD_DIM + i * 8 + 2 * t) =
                make_float2(out[i][2 * e] * f / l[e], out[i][2 * e + 1] * f / l[e]);
    }
}

// out = activation of columns [gate, up] of x, or GELU; (n, width).
extern "C" __global__ void act_rows(const float* x, int width, int act, float* out) {
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        const float* row = x + (u64)blockIdx.x * width * (act == GELU ? 1 : 2);
        const float v = row[i];
        out[(u64)blockIdx.x * width + i] = act == GELU ? gelu(v) : act == SWIGLU ? swiglu(v, row[width + i]) : swiglu_oai(v, row[width + i]);
    }
}
extern "C" __global__ void add_rows(const float* x, const float* y, float* out, int width) {
    for (int i = threadIdx.x; i < width; i += blockDim.x) out[(u64)blockIdx.x * width + i] = x[(u64)blockIdx.x * width + i] + y[(u64)blockIdx.x * width + i];
}
// Rotation by itself, for whoever watches it. Rows of x are `ld` apart.
extern "C" __global__ void rope_rows(const float* x, int ld, int width, const float* table, const Pass* pass, int n_rot, int pairing, float* out) {
    const bool padding = blockIdx.x >= pass->n;
    const float* row = table + (u64)(pass->start + blockIdx.x) * n_rot;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        out[(u64)blockIdx.x * width + i] = padding ? 0.f : rotated_at(x + (u64)blockIdx.x * ld + i / HEAD_DIM * HEAD_DIM, i % HEAD_DIM, row, n_rot, pairing);
}

// The k largest of each row of logits, largest first, ties to the lower index, and their softmax. One warp a token.
extern "C" __global__ void __launch_bounds__(32) route_rows(const float* logits, int n_experts, int k, int* ids, float* weights) {
    const int lane = threadIdx.x, token = blockIdx.x;
    const float none = -__int_as_float(0x7f800000);
    float mine[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) mine[j] = lane + 32 * j < n_experts ? logits[(u64)token * n_experts + lane + 32 * j] : none;
    float top = 0.f, sum = 0.f, kept = 0.f;
    for (int c = 0; c < k; ++c) {
        float v = none;
        int i = 0x7fffffff;
#pragma unroll
        for (int j = 0; j < 8; ++j) if (mine[j] > v || (mine[j] == v && lane + 32 * j < i)) v = mine[j], i = lane + 32 * j;
#pragma unroll
        for (int d = 16; d; d >>= 1) {
            float v2 = __shfl_xor_sync(FULL, v, d);
            int i2 = __shfl_xor_sync(FULL, i, d);
            if (v2 > v || (v2 == v && i2 < i)) v = v2, i = i2;
        }
        if (i >= n_experts) i = c;
#pragma unroll
        for (int j = 0; j < 8; ++j) if (lane + 32 * j == i) mine[j] = none;
        if (c == 0) top = v;
        float p = expf(v - top);
        sum += p;
        if (lane == c) kept = p;
        if (lane == 0) ids[(u64)token * k + c] = i;
    }
    if (lane < k) weights[(u64)token * k + lane] = kept / sum;
}

// Pairs (token, choice) by expert, in order. One block, one warp an expert at a time. counts: E counts, then E offsets.
extern "C" __global__ void __launch_bounds__(1024) list_pairs(const int* ids, int n_pairs, int n_experts, int* counts, int* list) {
    __shared__ int total[256], start[256];
    const int lane = threadIdx.x & 31, w = threadIdx.x >> 5;
    for (int e = w; e < n_experts; e += 32) {
        int n = 0;
        for (int i = lane; i < n_pairs; i += 32) n += ids[i] == e;
#pragma unroll
        for (int d = 16; d; d >>= 1) n += __shfl_xor_sync(FULL, n, d);
        if (lane == 0) total[e] = n;
    }
    __syncthreads();
    if (threadIdx.x == 0)
        for (int e = 0, at = 0; e < n_experts; ++e) {
            start[e] = at;
            counts[e] = total[e];
            counts[n_experts + e] = at;
            at += total[e];
        }
    __syncthreads();
    for (int e = w; e < n_experts; e += 32) {
        int at = start[e];
        for (int i0 = 0; i0 < n_pairs; i0 += 32) {
            const bool mine = i0 + lane < n_pairs && ids[i0 + lane] == e;
            const u32 all = __ballot_sync(FULL, mine);
            if (mine) list[at + __popc(all & ((1u << lane) - 1))] = i0 + lane;
            at += __popc(all);
        }
    }
}

// out[t] = sum over choices of weight * y[t * k + c] (+ residual[t]).
extern "C" __global__ void mix_rows(const float* y, const float* weights, int k, const float* residual, float* out, int width) {
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float v = 0.f;
        for (int c = 0; c < k; ++c) v = fmaf(weights[(u64)blockIdx.x * k + c], y[((u64)blockIdx.x * k + c) * width + i], v);
        if (residual) v += residual[(u64)blockIdx.x * width + i];
        out[(u64)blockIdx.x * width + i] = v;
    }
}
