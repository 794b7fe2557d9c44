// Attention of one token over the job's cache: rotation and cache write, scores, softmax, values. A query group's heads
// share the keys and values they read; a long context is split over blocks and combined by a second instruction.
#pragma once

#ifndef HEAD_DIM
#define HEAD_DIM 64
#endif
#ifndef GROUP
#define GROUP 1
#endif
#ifndef KV_F32
#define KV_F32 0
#endif

#define CHUNKS ((HEAD_DIM + 31) / 32)           // chunks of 8 features that each of a token's four lanes holds
#define NARROW (HEAD_DIM % 32 != 0)             // the last chunk is not every lane's
// Heads that a block works on at once: their sums must fit in registers.
#define HEADS (GROUP < 64 / (CHUNKS * 8) ? GROUP : (64 / (CHUNKS * 8) < 1 ? 1 : 64 / (CHUNKS * 8)))
#define SUBGROUPS ((GROUP + HEADS - 1) / HEADS)
#define SPLIT_SCORES 8192                       // scores of one unit of work that fit in shared memory
#define SPLIT_TOKENS (SPLIT_SCORES / HEADS)
#define SHORT_SPAN 128                          // up to here one block a head group is faster than two instructions

#if KV_F32
typedef float Kv;
#else
typedef u16 Kv;
#endif

DEV void kv_store(Kv* p, float v) {
#if KV_F32
    *p = v;
#else
    *p = (u16)to_half(v);
#endif
}
struct Kv8 {
#if KV_F32
    float4 a, b;
    DEV void load(const Kv* p) { a = *(const float4*)p; b = *(const float4*)(p + 4); }
    DEV void get(float (&v)[8]) const { v[0] = a.x; v[1] = a.y; v[2] = a.z; v[3] = a.w; v[4] = b.x; v[5] = b.y; v[6] = b.z; v[7] = b.w; }
#else
    uint4 a;
    DEV void load(const Kv* p) { a = *(const uint4*)p; }
    DEV void get(float (&v)[8]) const {
        v[0] = from_half(a.x & 0xffff); v[1] = from_half(a.x >> 16); v[2] = from_half(a.y & 0xffff); v[3] = from_half(a.y >> 16);
        v[4] = from_half(a.z & 0xffff); v[5] = from_half(a.z >> 16); v[6] = from_half(a.w & 0xffff); v[7] = from_half(a.w >> 16);
    }
#endif
};

// Feature j of a head after rotation. row: n_rot/2 cosines, then as many sines.
DEV float rotated(const float* x, int j, const float* row, int n_rot, int pairing) {
    float v = shared_read(x + j);
    if (j >= n_rot) return v;
    int half = n_rot / 2, pair = pairing ? (j < half ? j : j - half) : j >> 1;
    bool second = pairing ? j >= half : j & 1;
    float other = shared_read(x + (pairing ? (second ? j - half : j + half) : j ^ 1));
    float c = row[pair], s = row[half + pair];
    return second ? fmaf(v, c, other * s) : fmaf(v, c, -other * s);
}

struct Span { int from, to, splits, per; };

DEV Span span_of(const Instruction& I, const State* st) {
    Span s;
    s.to = st->position + 1;
    s.from = I.window > 0 ? max(0, s.to - I.window) : 0;
    int n = s.to - s.from;
    s.splits = n <= SHORT_SPAN ? 1 : min(I.max_splits, (n + 63) / 64);
    s.splits = max(s.splits, (n + SPLIT_TOKENS - 1) / SPLIT_TOKENS);
    s.per = (n + s.splits - 1) / s.splits;
    return s;
}

CALL void do_attend(const Instruction& I, State* st, float* work, Shared& s) {
    const int tid = threadIdx.x, lane = tid & 31, w = tid >> 5, sub = lane >> 2, l = lane & 3;
    const Span span = span_of(I, st);
    const int units = I.n_kv_head * SUBGROUPS * span.splits;
    float* q = work;                            // (HEADS, HEAD_DIM), rotated and scaled
    float* scores = q + HEADS * HEAD_DIM;       // (HEADS, tokens of the split)
    float* red = scores + SPLIT_SCORES;         // (WARPS, HEADS * 32 * CHUNKS)
    float* warp_m = red + WARPS * HEADS * 32 * CHUNKS;
    float* warp_l = warp_m + WARPS * HEADS;
    const float* row = I.rotate ? st->tables[I.table] + (u64)st->position * I.n_rot : 0;

    for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
        const int split = unit % span.splits, group = unit / span.splits;
        const int kvh = group / SUBGROUPS, first = (group % SUBGROUPS) * HEADS, heads = min(HEADS, GROUP - first);
        const int h0 = kvh * GROUP + first;
        const int from = span.from + split * span.per, to = min(from + span.per, span.to), n = max(to - from, 0);
        Kv* keys = (Kv*)(st->cache + (u64)I.layer * st->layer_bytes) + (u64)kvh * st->capacity * HEAD_DIM;
        Kv* values = (Kv*)((u8*)keys + st->value_offset);
        __syncthreads();
        for (int i = tid; i < heads * HEAD_DIM; i += THREADS) {
            const float* x = I.x + (u64)(h0 + i / HEAD_DIM) * HEAD_DIM;
            int j = i % HEAD_DIM;
            q[i] = (I.rotate ? rotated(x, j, row, I.n_rot, I.pairing) : shared_read(x + j)) * I.scale;
        }
        if (to == span.to && n > 0)             // this unit sees the new token: it brings it into the cache
            for (int j = tid - THREADS / 2; j >= 0 && j < HEAD_DIM; j += THREADS / 2) {
                const float* k = I.k_in + (u64)kvh * HEAD_DIM;
                u64 at = (u64)(to - 1) * HEAD_DIM + j;
                kv_store(keys + at, I.rotate ? rotated(k, j, row, I.n_rot, I.pairing) : shared_read(k + j));
                kv_store(values + at, shared_read(I.v_in + (u64)kvh * HEAD_DIM + j));
            }
        __syncthreads();

        // Scores: four lanes a token, eight tokens a warp.
        float m[HEADS];
#pragma unroll
        for (int h = 0; h < HEADS; ++h) m[h] = -1e30f;
        for (int i0 = w * 8; i0 < n; i0 += WARPS * 8 * 2) {
            Kv8 key[2][CHUNKS];
#pragma unroll
            for (int d = 0; d < 2; ++d) {
                int i = i0 + d * WARPS * 8 + sub;
#pragma unroll
                for (int c = 0; c < CHUNKS; ++c)
                    if (i < n && (!NARROW || (c * 4 + l) * 8 < HEAD_DIM)) key[d][c].load(keys + (u64)(from + i) * HEAD_DIM + (c * 4 + l) * 8);
            }
#pragma unroll
            for (int d = 0; d < 2; ++d) {
                int i = i0 + d * WARPS * 8 + sub;
                float dot[HEADS];
#pragma unroll
                for (int h = 0; h < HEADS; ++h) dot[h] = 0.f;
#pragma unroll
                for (int c = 0; c < CHUNKS; ++c)
                    if (i < n && (!NARROW || (c * 4 + l) * 8 < HEAD_DIM)) {
                        float k[8];
                        key[d][c].get(k);
#pragma unroll
                        for (int h = 0; h < HEADS; ++h) {
                            const float4* qs = (const float4*)(q + h * HEAD_DIM + (c * 4 + l) * 8);
                            float4 a = qs[0], b = qs[1];
                            dot[h] = fmaf(k[0], a.x, fmaf(k[1], a.y, fmaf(k[2], a.z, fmaf(k[3], a.w, dot[h]))));
                            dot[h] = fmaf(k[4], b.x, fmaf(k[5], b.y, fmaf(k[6], b.z, fmaf(k[7], b.w, dot[h]))));
                        }
                    }
#pragma unroll
                for (int h = 0; h < HEADS; ++h) {
                    dot[h] += __shfl_xor_sync(FULL, dot[h], 1);
                    dot[h] += __shfl_xor_sync(FULL, dot[h], 2);
                    if (i < n && h < heads) {
                        if (l == 0) scores[h * span.per + i] = dot[h];
                        m[h] = fmaxf(m[h], dot[h]);
                    }
                }
            }
        }
        __syncwarp();
        // Values, weighted: the same tokens, so that a warp reads only scores of its own.
        float acc[HEADS * CHUNKS * 8], denominator[HEADS];
#pragma unroll
        for (int i = 0; i < HEADS * CHUNKS * 8; ++i) acc[i] = 0.f;
#pragma unroll
        for (int h = 0; h < HEADS; ++h) {
            denominator[h] = 0.f;
            m[h] = warp_max(m[h]);
        }
        for (int i0 = w * 8; i0 < n; i0 += WARPS * 8 * 2) {
            Kv8 value[2][CHUNKS];
#pragma unroll
            for (int d = 0; d < 2; ++d) {
                int i = i0 + d * WARPS * 8 + sub;
#pragma unroll
                for (int c = 0; c < CHUNKS; ++c)
                    if (i < n && (!NARROW || (c * 4 + l) * 8 < HEAD_DIM)) value[d][c].load(values + (u64)(from + i) * HEAD_DIM + (c * 4 + l) * 8);
            }
#pragma unroll
            for (int d = 0; d < 2; ++d) {
                int i = i0 + d * WARPS * 8 + sub;
                if (i < n) {
                    float p[HEADS];
#pragma unroll
                    for (int h = 0; h < HEADS; ++h) {
                        p[h] = h < heads ? expf(scores[h * span.per + i] - m[h]) : 0.f;
                        denominator[h] += p[h];
                    }
#pragma unroll
                    for (int c = 0; c < CHUNKS; ++c)
                        if (!NARROW || (c * 4 + l) * 8 < HEAD_DIM) {
                            float v[8];
                            value[d][c].get(v);
#pragma unroll
                            for (int h = 0; h < HEADS; ++h)
#pragma unroll
                                for (int e = 0; e < 8; ++e) acc[(h * CHUNKS + c) * 8 + e] = fmaf(p[h], v[e], acc[(h * CHUNKS + c) * 8 + e]);
                        }
                }
            }
        }
        // Sum over the warp's eight tokens, halving what each lane holds; then over warps with their maxima.
#pragma unroll
        for (int h = 0; h < HEADS; ++h) {
            float d = denominator[h];
            d += __shfl_xor_sync(FULL, d, 4);
            d += __shfl_xor_sync(FULL, d, 8);
            d += __shfl_xor_sync(FULL, d, 16);
            if (lane == 0) warp_m[w * HEADS + h] = m[h], warp_l[w * HEADS + h] = d;
        }
        constexpr int N = HEADS * CHUNKS * 8;
        int offset = 0;
#pragma unroll
        for (int step = 0; step < 3; ++step) {
            const int half = N >> (step + 1), bit = 16 >> step;
            const bool up = lane & bit;
#pragma unroll
            for (int i = 0; i < half; ++i) {
                float keep = up ? acc[i + half] : acc[i], send = up ? acc[i] : acc[i + half];
                acc[i] = keep + __shfl_xor_sync(FULL, send, bit);
            }
            offset += up ? half : 0;
        }
        // acc index (h * CHUNKS + c) * 8 + e of lane l is feature (c * 4 + l) * 8 + e of head h.
#pragma unroll
        for (int i = 0; i < N / 8; ++i) {
            int at = offset + i, h = at / (CHUNKS * 8), c = at / 8 % CHUNKS, e = at % 8;
            red[(w * HEADS + h) * (32 * CHUNKS) + (c * 4 + l) * 8 + e] = acc[i];
        }
        __syncthreads();
        const int warps = min(WARPS, (n + 7) / 8);
        for (int i = tid; i < heads * HEAD_DIM; i += THREADS) {
            int h = i / HEAD_DIM, j = i % HEAD_DIM;
            float top = -1e30f;
            for (int v = 0; v < warps; ++v) top = fmaxf(top, warp_m[v * HEADS + h]);
            float sum = 0.f, total = 0.f;
            for (int v = 0; v < warps; ++v) {
                float f = expf(warp_m[v * HEADS + h] - top);
                sum = fmaf(f, red[(v * HEADS + h) * (32 * CHUNKS) + j], sum);
                total = fmaf(f, warp_l[v * HEADS + h], total);
            }
            const int head = h0 + h;
            if (span.splits == 1) {
                if (I.sinks) {
                    float sink = I.sinks[head], all = fmaxf(top, sink), f = expf(top - all);
                    sum *= f;
                    total = fmaf(total, f, expf(sink - all));
                }
                I.out[(u64)head * HEAD_DIM + j] = sum / total;
            } else {
                u64 at = (u64)head * span.splits + split;
                I.partial[at * (HEAD_DIM + 2) + 2 + j] = sum;
                if (j == 0) I.partial[at * (HEAD_DIM + 2)] = top, I.partial[at * (HEAD_DIM + 2) + 1] = total;
            }
        }
    }
}

// The splits of each head put together, in order.
CALL void do_combine(const Instruction& I, const State* st) {
    const Span span = span_of(I, st);
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < I.n_head * HEAD_DIM; i += gridDim.x * THREADS) {
        int head = i / HEAD_DIM, j = i % HEAD_DIM;
        const float* p = I.partial + (u64)head * span.splits * (HEAD_DIM + 2);
        float top = I.sinks ? I.sinks[head] : -1e30f;
        for (int s = 0; s < span.splits; ++s) top = fmaxf(top, shared_read(p + s * (HEAD_DIM + 2)));
        float total = I.sinks ? expf(I.sinks[head] - top) : 0.f, sum = 0.f;
        for (int s = 0; s < span.splits; ++s) {
            const float* r = p + s * (HEAD_DIM + 2);
            float f = expf(shared_read(r) - top);
            sum = fmaf(f, shared_read(r + 2 + j), sum);
            total = fmaf(f, shared_read(r + 1), total);
        }
        I.out[i] = sum / total;
    }
}
