// The persistent launch's shared memory, its reductions, and what products need of their input vector.
#pragma once

// For timing only: cycle counts of thread 0, eight by (instruction, block).
#ifdef STAMPS
__device__ long long* stamp_at;
extern "C" __global__ void set_stamps(long long* p) { stamp_at = p; }
#define STAMP(i) do { if (threadIdx.x == 0 && stamp_at) stamp_at[((u64)((Shared*)smem)->at * gridDim.x + blockIdx.x) * 8 + (i)] = clock64(); } while (0)
#else
#define STAMP(i)
#endif

#define THREADS 512             // that compute; one more warp looks ahead
#define ALL_THREADS (THREADS + 32)
#define WARPS 16
#define BATCH_GROUPS 256        // groups of rows whose partial sums fit in shared memory; the host cuts instructions so
#define MAX_RUNS 16
#define RECORDS 8               // instructions that are here or on their way

// A run: neighbouring groups of one stored matrix, one stream of bytes.
struct Run {
    const u8* base;
    int type, groups, rows, row0;       // row0: first row of the output, of the stacked matrix or of the expert
    int part, input;                    // first float of its partial sums; which of the prepared vectors it multiplies
    int per, units;                     // units of a group, and of all
    float inv_per, inv_units;
    int unit, chunk;                    // bytes of a unit; units of a chunk
    int stride, expert;                 // bytes of a group
};

struct Plan { int n, from, to, unused; Run runs[MAX_RUNS]; };           // a block's runs of an instruction
struct ShortPlan { int n, from, to, unused; Run runs[MAX_PARTS]; };     // of one that does not wait for a router

struct Record { Instruction instruction; ShortPlan plan; };

struct Shared {                 // fixed part of dynamic shared memory; rings and vectors follow
    Record records[RECORDS];    // of instruction i at i % RECORDS
    u64 arrived[RECORDS];       // barriers: the record is here
    u64 full[WARPS * RING_CHUNKS];      // barriers: the chunk is here
    Taken taken[WARPS];
    int at;                     // the instruction that the block works on
    int chosen_at;              // the last instruction whose experts are known
    Plan up, down;              // the chosen experts' runs
    int chosen[MAX_CHOSEN];
    float weight[MAX_CHOSEN];
    float sums[3][WARPS];
    u32 maxima[3][WARPS];
    float best_value[WARPS];
    int best_index[WARPS];
    float unit;                 // scale of the prepared vectors' fixed point
    int last;
    State state;                // as it was when the launch began
};

#define PART_FLOATS ((BATCH_GROUPS + WARPS * MAX_RUNS) * 8)
#define PART_AT (RING_AT + WARPS * RING_BYTES)          // byte of shared memory where partial sums start
static_assert(sizeof(Instruction) % 16 == 0 && sizeof(ShortPlan) % 16 == 0 && sizeof(Record) % 16 == 0, "the copy engine moves 16 bytes");
static_assert(sizeof(ShortPlan) == PLAN_BYTES, "program.py disagrees");
static_assert(sizeof(Shared) <= SHARED_FIXED && PART_FLOATS == PART_FLOATS_HOST, "program.py disagrees");

// All threads that compute.
DEV void block_sync() { asm volatile("bar.sync 1, 512;" ::: "memory"); }

DEV int blocks_of(int k) { return (k + 255) / 256 * 8; }

// This block's share of n pieces; q and r are n / blocks and n % blocks.
DEV void share(int q, int r, int& from, int& to) {
    const int b = blockIdx.x;
    from = b * q + min(b, r);
    to = from + q + (b < r);
}
DEV void share(int n, int& from, int& to) { share(n / (int)gridDim.x, n % (int)gridDim.x, from, to); }

// n / d for d = 1 / inverse, both below 2^20.
DEV int quotient(int n, float inverse) { return (int)(((float)n + 0.5f) * inverse); }

// Over the block; every thread gets the results. Each slot is used once an instruction.
DEV void block_reduce(float& sum, u32& largest, int slot, Shared& s) {
    sum = warp_sum(sum);
    largest = __reduce_max_sync(FULL, largest);
    if ((threadIdx.x & 31) == 0) s.sums[slot][threadIdx.x >> 5] = sum, s.maxima[slot][threadIdx.x >> 5] = largest;
    block_sync();
    sum = s.sums[slot][threadIdx.x & (WARPS - 1)];
    largest = __reduce_max_sync(FULL, s.maxima[slot][threadIdx.x & (WARPS - 1)]);
#pragma unroll
    for (int i = WARPS / 2; i; i >>= 1) sum += __shfl_xor_sync(FULL, sum, i);
}

// ---- activations: norm, then fixed point digits ------------------------------------------------------------------

DEV u32 magnitude(float4 v) {
    return max(max(__float_as_uint(v.x) & 0x7fffffffu, __float_as_uint(v.y) & 0x7fffffffu),
               max(__float_as_uint(v.z) & 0x7fffffffu, __float_as_uint(v.w) & 0x7fffffffu));
}
DEV float squares(float4 v) { return fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, v.w * v.w))); }
DEV float total4(float4 v) { return (v.x + v.y) + (v.z + v.w); }
DEV float4 times(float4 v, float f) { return make_float4(v.x * f, v.y * f, v.z * f, v.w * f); }
DEV float4 times(float4 v, float4 f) { return make_float4(v.x * f.x, v.y * f.y, v.z * f.z, v.w * f.w); }
DEV float4 plus(float4 v, float4 f) { return make_float4(v.x + f.x, v.y + f.y, v.z + f.z, v.w + f.w); }
DEV float4 minus(float4 v, float f) { return make_float4(v.x - f, v.y - f, v.z - f, v.w - f); }

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

#define HELD 6                  // float4 of x that a thread keeps: of up to 12,288 floats, x is read once

// Everything the products need of x: planes and their scale, sums of 32-blocks, floats. x is one vector of k floats, or
// several without a norm, one after the other; each starts at a multiple of 256 in what is made of it. All threads that
// compute take part. The caller's next barrier makes it visible.
DEV void prepare(const Instruction& I, int inputs, float* xsum, u32* planes, float* floats, Sets sets, Shared& s) {
    const int one4 = I.k >> 2, k4 = one4 * inputs, tid = threadIdx.x, norm = I.norm, flags = I.flags, blocks = blocks_of(I.k);
    const float4* w4 = (const float4*)I.norm_w;
    const float* x = I.x + sets.here;
    float4 v[HELD], w0, w1;
    if (norm != NO_NORM) {      // on its way while x is awaited
        if (tid < k4) w0 = constant4(w4 + tid);
        if (tid + THREADS < k4) w1 = constant4(w4 + tid + THREADS);
    }
    // All of the thread's pieces of x are asked for at once, and those that were not there yet again.
    u32 missing = 0;
#pragma unroll
    for (int h = 0; h < HELD; ++h) {
        v[h] = make_float4(0.f, 0.f, 0.f, 0.f);
        if (tid + h * THREADS < k4) missing |= 1u << h;
    }
    for (u32 n = 0; missing; spun(n)) {
#pragma unroll
        for (int h = 0; h < HELD; ++h) if (missing >> h & 1) v[h] = glance4(x + 4 * (tid + h * THREADS));
#pragma unroll
        for (int h = 0; h < HELD; ++h) if (!armed(v[h])) missing &= ~(1u << h);
    }
    STAMP(1);
    float mean = 0.f, scale = 1.f, sum = 0.f;
    u32 largest = 0;
    if (norm == LAYER) {
#pragma unroll
        for (int h = 0; h < HELD; ++h) sum += total4(v[h]);
#pragma unroll 1
        for (int j = tid + HELD * THREADS; j < k4; j += THREADS) sum += total4(await4(x + 4 * j));
        block_reduce(sum, largest, 0, s);
        mean = sum / (float)I.k;
        sum = 0.f;
    }
#pragma unroll
    for (int h = 0; h < HELD; ++h) {
        const int j = tid + h * THREADS;
        if (h * THREADS >= k4) break;
        if (norm != NO_NORM && j < k4) {
            if (norm == LAYER) v[h] = minus(v[h], mean);
            sum += squares(v[h]);
            v[h] = times(v[h], h == 0 ? w0 : h == 1 ? w1 : constant4(w4 + j));
        }
        largest = max(largest, magnitude(v[h]));
    }
#pragma unroll 1
    for (int j = tid + HELD * THREADS; j < k4; j += THREADS) {
        float4 a = await4(x + 4 * j);
        if (norm == LAYER) a = minus(a, mean);
        if (norm != NO_NORM) sum += squares(a), a = times(a, constant4(w4 + j));
        largest = max(largest, magnitude(a));
    }
    block_reduce(sum, largest, 1, s);
    float bound = __uint_as_float(largest);     // of |x w|; the norm's scale and bias come on top
    if (norm != NO_NORM) {
        scale = 1.f / sqrtf(sum / (float)I.k + I.eps);
        bound *= scale;
    }
    if (norm == LAYER) {
        float ignore = 0.f;
        u32 b = 0;
#pragma unroll 1
        for (int j = tid; j < k4; j += THREADS) b = max(b, magnitude(((const float4*)I.norm_b)[j]));
        block_reduce(ignore, b, 2, s);
        bound += __uint_as_float(b);
    }
    // A power of two that brings the bound to 29 bits and a little; what is not finite stays so.
    const u32 bits = __float_as_uint(bound) & 0x7fffffffu;
    const int e = max((int)(bits >> 23), 40);
    const bool finite = bits < 0x7f000000u;
    const float inv = finite ? __uint_as_float((u32)(282 - e) << 23) : 0.f;     // 2^(28 - (e - 127))
    if (tid == 0) s.unit = finite ? __uint_as_float((u32)(e - 28) << 23) : __uint_as_float(0x7fc00000u);
    auto put = [&](int j, float4 a) {           // whole warps: sums need all lanes
        if (norm != NO_NORM) a = times(a, scale);
        if (norm == LAYER && j < k4) a = plus(a, ((const float4*)I.norm_b)[j]);
        const int c = inputs > 1 ? j / one4 : 0, at = j + c * (blocks * 8 - one4);
        if (j < k4) {
            if (flags & FLOATS_OF_X) ((float4*)floats)[at] = a;
            if (flags & PLANES_OF_X) store_planes(planes, at, a, inv);
        }
        if (flags & SUMS_OF_X) {
            float t = total4(a);
            t += __shfl_xor_sync(FULL, t, 1);
            t += __shfl_xor_sync(FULL, t, 2);
            t += __shfl_xor_sync(FULL, t, 4);
            if ((tid & 7) == 0 && j < k4) xsum[at >> 3] = t;
        }
    };
#pragma unroll
    for (int h = 0; h < HELD; ++h) {
        if ((tid & ~31) + h * THREADS >= k4) break;
        put(tid + h * THREADS, v[h]);
    }
#pragma unroll 1
    for (int base = (tid & ~31) + HELD * THREADS; base < k4; base += THREADS) {
        const int j = base + (tid & 31);
        float4 a = make_float4(0.f, 0.f, 0.f, 0.f);
        if (j < k4) {
            a = await4(x + 4 * j);
            if (norm == LAYER) a = minus(a, mean);
            if (norm != NO_NORM) a = times(a, constant4(w4 + j));
        }
        put(j, a);
    }
    if ((flags & SUMS_OF_X) && (I.k & 255))     // padding is multiplied by zeros and must be finite
        for (int b = tid; b < blocks * inputs; b += THREADS) if (b % blocks >= I.k >> 5) xsum[b] = 0.f;
}
