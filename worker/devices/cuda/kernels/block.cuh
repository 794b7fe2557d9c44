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
    int watched[MAX_CHOSEN];    // the choice of a CHOOSE
    float best_value[WARPS];
    int best_index[WARPS];
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

// Over the block; every thread gets the result. Each slot is used once an instruction.
DEV float block_sum(float sum, int slot, Shared& s) {
    sum = warp_sum(sum);
    if ((threadIdx.x & 31) == 0) s.sums[slot][threadIdx.x >> 5] = sum;
    block_sync();
    sum = s.sums[slot][threadIdx.x & (WARPS - 1)];
#pragma unroll
    for (int i = WARPS / 2; i; i >>= 1) sum += __shfl_xor_sync(FULL, sum, i);
    return sum;
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

// What products need of one vector or several: planes, a scale for each 128 of its values, sums of its 32-blocks, and
// the values themselves.
struct Vectors {
    float *part, *xsum, *xscale, *floats;
    u32* planes;
    int blocks;                 // of a vector

    DEV Vectors(const Instruction& I, int inputs) {
        blocks = blocks_of(I.k);
        part = (float*)(smem + PART_AT);
        xsum = part + PART_FLOATS;
        xscale = xsum + blocks * inputs;
        planes = (u32*)(xscale + blocks / 4 * inputs);
        floats = (float*)(planes + (I.flags & PLANES_OF_X ? blocks * BLOCK_WORDS * inputs : 0));
    }
};

// Mean and inverse deviation of a vector, and a barrier before the next use of the slots.
DEV void layer_norm(const Instruction& I, const float* x, float& mean, float& scale, Shared& s) {
    float sum = 0.f;
#pragma unroll 1
    for (int j = threadIdx.x; j < I.k >> 2; j += THREADS) sum += total4(await4(x + 4 * j));
    mean = block_sum(sum, 1, s) / (float)I.k;
    sum = 0.f;
#pragma unroll 1
    for (int j = threadIdx.x; j < I.k >> 2; j += THREADS) sum += squares(minus(await4(x + 4 * j), mean));
    scale = 1.f / sqrtf(block_sum(sum, 2, s) / (float)I.k + I.eps);
}

#define HELD 6                  // pieces of x that a lane keeps: up to 12,288 floats are asked for at once

// x is one vector of k floats, or several without a norm, one after the other; each starts at a multiple of 256 in what
// is made of it. A warp takes every 16th piece of 128 floats, and no warp waits for another: the factor of an RMS norm
// is left to the end of the product (rms_factor). The caller's next barrier makes all visible.
DEV void prepare(const Instruction& I, int inputs, const Vectors& to, Sets sets, Shared& s) {
    const int lane = threadIdx.x & 31, w = threadIdx.x >> 5, norm = I.norm, flags = I.flags, k = I.k;
    const int per = to.blocks >> 2, pieces = per * inputs;
    const float* x = I.x + sets.here;
    // Piece p: value 4 lane of it in x, or -1 beyond the vector's end.
    auto offset = [&](int p) {
        int input = 0, j = p;
        while (j >= per) j -= per, ++input;
        j = j * 128 + lane * 4;
        return p < pieces && j < k ? input * k + j : -1;
    };
    float4 v[HELD], weights = make_float4(1.f, 1.f, 1.f, 1.f);
    if (norm != NO_NORM && offset(w) >= 0) weights = constant4((const float4*)(I.norm_w + offset(w)));
    u32 missing = 0;
#pragma unroll
    for (int h = 0; h < HELD; ++h) {
        v[h] = make_float4(0.f, 0.f, 0.f, 0.f);
        if (w + h * WARPS < pieces && offset(w + h * WARPS) >= 0) missing |= 1u << h;
    }
    // All of a lane's pieces are asked for at once, and those that were not there yet again.
    for (u32 n = 0; missing; spun(n)) {
#pragma unroll
        for (int h = 0; h < HELD; ++h) if (missing >> h & 1) v[h] = glance4(x + offset(w + h * WARPS));
#pragma unroll
        for (int h = 0; h < HELD; ++h) if (!armed(v[h])) missing &= ~(1u << h);
    }
    STAMP(1);
    float mean = 0.f, scale = 1.f, sum = 0.f;
    if (norm == LAYER) layer_norm(I, x, mean, scale, s);
#pragma unroll 1
    for (int p = w; p < pieces; p += WARPS) {
        const int at = offset(p);
        float4 a = v[0];
        if (p >= HELD * WARPS && at >= 0) a = await4(x + at);
#pragma unroll
        for (int h = 0; h + 1 < HELD; ++h) v[h] = v[h + 1];
        float4 next = weights;
        if (norm != NO_NORM) {
            const int ahead = offset(p + WARPS);
            if (ahead >= 0) next = constant4((const float4*)(I.norm_w + ahead));
            if (norm == RMS) sum += squares(a);
            else a = times(minus(a, mean), scale);
            a = times(a, weights);
            if (norm == LAYER && at >= 0) a = plus(a, constant4((const float4*)(I.norm_b + at)));
            if (at < 0) a = make_float4(0.f, 0.f, 0.f, 0.f);
        }
        weights = next;
        if (flags & FLOATS_OF_X) ((float4*)to.floats)[p * 32 + lane] = a;
        if (flags & PLANES_OF_X) {
            // A power of two that brings the largest value to 29 bits and a little; what is not finite stays so.
            const u32 bits = __reduce_max_sync(FULL, magnitude(a));
            const int e = max((int)(bits >> 23), 40);
            const bool finite = bits < 0x7f000000u;
            if (lane == 0) to.xscale[p] = finite ? __uint_as_float((u32)(e - 28) << 23) : __uint_as_float(0x7fc00000u);
            store_planes(to.planes, p * 32 + lane, a, finite ? __uint_as_float((u32)(282 - e) << 23) : 0.f);    // 2^(28 - (e - 127))
        }
        if (flags & SUMS_OF_X) {
            float t = total4(a);
            t += __shfl_xor_sync(FULL, t, 1);
            t += __shfl_xor_sync(FULL, t, 2);
            t += __shfl_xor_sync(FULL, t, 4);
            if ((lane & 7) == 0) to.xsum[p * 4 + (lane >> 3)] = t;
        }
    }
    if (norm == RMS) {
        sum = warp_sum(sum);
        if (lane == 0) s.sums[0][w] = sum;
    }
}

// What a product of a prepared vector is still to be multiplied by; after the barrier, whole warps.
DEV float rms_factor(const Instruction& I, const Shared& s) {
    if (I.norm != RMS) return 1.f;
    float sum = s.sums[0][threadIdx.x & (WARPS - 1)];
#pragma unroll
    for (int i = WARPS / 2; i; i >>= 1) sum += __shfl_xor_sync(FULL, sum, i);
    return rsqrtf(sum / (float)I.k + I.eps);
}
