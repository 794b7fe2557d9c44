// Attention of one token over the job's cache: rotation and cache write, scores, softmax, values. A query group's heads
// share the keys and values they read; a long context is split over blocks (splits.cuh).
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
#define HEADS (GROUP < 32 / (CHUNKS * 8) ? GROUP : (32 / (CHUNKS * 8) < 1 ? 1 : 32 / (CHUNKS * 8)))
#define SUBGROUPS ((GROUP + HEADS - 1) / HEADS)
#define SHORT_SPAN 360                          // up to here one block attends to a group of heads
#define SPLIT_SPAN 180                          // and beyond, to so many tokens, while there are blocks
#define TOKENS (CHUNKS <= 2 ? 3 : CHUNKS <= 4 ? 2 : 1)  // that each four lanes work on at once

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
    DEV void clear() { a = b = make_float4(0.f, 0.f, 0.f, 0.f); }
    DEV void get(float (&v)[8]) const { v[0] = a.x; v[1] = a.y; v[2] = a.z; v[3] = a.w; v[4] = b.x; v[5] = b.y; v[6] = b.z; v[7] = b.w; }
#else
    uint4 a;
    DEV void load(const Kv* p) { a = *(const uint4*)p; }
    DEV void clear() { a = make_uint4(0, 0, 0, 0); }
    DEV void get(float (&v)[8]) const {
        v[0] = from_half(a.x & 0xffff); v[1] = from_half(a.x >> 16); v[2] = from_half(a.y & 0xffff); v[3] = from_half(a.y >> 16);
        v[4] = from_half(a.z & 0xffff); v[5] = from_half(a.z >> 16); v[6] = from_half(a.w & 0xffff); v[7] = from_half(a.w >> 16);
    }
#endif
};

// Two features of a head after rotation, those that are rotated together; behind the first n_rot, neighbours as they are.
// row: n_rot/2 cosines, then as many sines.
struct Pair {
    int a, b;                   // which
    float first, second;

    DEV Pair(const float* x, int pair, const float* row, int n_rot, int pairing) {
        const int half = n_rot / 2;
        const bool turns = pair < half;
        a = turns && pairing ? pair : 2 * pair, b = turns && pairing ? pair + half : a + 1;
        first = glance(x + a), second = glance(x + b);
        const float c = turns ? constant(row + pair) : 1.f, s = turns ? constant(row + half + pair) : 0.f;
        const float u = await(x + a, first), v = await(x + b, second);
        first = turns ? fmaf(u, c, -v * s) : u, second = turns ? fmaf(v, c, u * s) : v;
    }
};

// Of 2 H sums, a lane keeps the half that its bit says, added to its partner's; returns where they started.
template <int H> DEV int halve(float* acc, int lane, int bit) {
    const bool up = lane & bit;
#pragma unroll
    for (int i = 0; i < H; ++i) {
        float keep = up ? acc[i + H] : acc[i], send = up ? acc[i] : acc[i + H];
        acc[i] = keep + __shfl_xor_sync(FULL, send, bit);
    }
    return up ? H : 0;
}

struct Span { int from, to, splits, per; };

DEV Span span_of(const Instruction& I, const State& st) {
    Span s;
    s.to = st.position + 1;
    s.from = I.window > 0 ? max(0, s.to - I.window) : 0;
    int n = s.to - s.from;
    s.splits = n <= SHORT_SPAN ? 1 : min(I.max_splits, (n + SPLIT_SPAN - 1) / SPLIT_SPAN);
    s.per = (n + s.splits - 1) / s.splits;
    return s;
}

// Keys or values of this lane's features of one token.
struct Features {
    Kv8 c[CHUNKS];
    DEV void load(const Kv* p, int l) {
#pragma unroll
        for (int i = 0; i < CHUNKS; ++i)
            if (!NARROW || (i * 4 + l) * 8 < HEAD_DIM) c[i].load(p + (i * 4 + l) * 8);
            else c[i].clear();
    }
};

#define PREFETCH 49152                          // bytes of a block's keys, and of its values, brought to L2 ahead

// The last blocks attend first: they have the smaller shares of the product before.
DEV int attending() { return gridDim.x - 1 - blockIdx.x; }

// One lane: the first of what the block will read of the cache is on its way to L2.
DEV void prefetch_cache(const Instruction& I) {
    const State& st = block().state;
    const Span span = span_of(I, st);
    const int unit = attending(), split = unit % span.splits, group = unit / span.splits;
    if (group >= I.n_kv_head * SUBGROUPS || group % SUBGROUPS) return;
    const int from = span.from + split * span.per, n = min(from + span.per, span.to - 1) - from;
    if (n <= 0) return;
    const Kv* keys = (const Kv*)(st.cache + (u64)I.layer * st.layer_bytes) + ((u64)(group / SUBGROUPS) * st.capacity + from) * HEAD_DIM;
    const u32 bytes = min(n * (int)sizeof(Kv) * HEAD_DIM, PREFETCH);
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" :: "l"(keys), "r"(bytes) : "memory");
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" :: "l"((const u8*)keys + st.value_offset), "r"(bytes) : "memory");
}

// What a split leaves: a row of all heads' sums, and behind all rows a row of each head's maximum and denominator.
DEV float* partial_sums(const Instruction& I, int split) { return I.partial + split * I.n_head * HEAD_DIM; }
DEV float* partial_counts(const Instruction& I, int split) { return I.partial + (I.max_splits * HEAD_DIM + split * 2) * I.n_head; }

CALL void do_attend(int instruction) {
    float* work = (float*)(smem + PART_AT);
    float* q = work;                            // (HEADS, 32 CHUNKS), rotated and scaled
    float* warp_sums = q + HEADS * 32 * CHUNKS; // (WARPS, HEADS, 32 CHUNKS)
    float* warp_tops = warp_sums + WARPS * HEADS * 32 * CHUNKS;
    float* warp_totals = warp_tops + WARPS * HEADS;
#pragma unroll 1
    for (int unit = attending(); ; unit = block().attending.unit + gridDim.x) {
        const Instruction& I = record_at(instruction).instruction;
        const State& st = block().state;
        const int tid = thread(), w = tid >> 5;
        const Span span = span_of(I, st);
        if (unit >= I.n_kv_head * SUBGROUPS * span.splits) break;
        const int n_rot = I.rotate ? I.n_rot : 0;
        const float* row = st.tables[I.table] + (u64)st.position * n_rot;
        const int split = unit % span.splits, group = unit / span.splits;
        const int kvh = group / SUBGROUPS, first = (group % SUBGROUPS) * HEADS, heads = min(HEADS, GROUP - first);
        const int h0 = kvh * GROUP + first;
        const int from = span.from + split * span.per, to = min(from + span.per, span.to), n = max(to - from, 0);
        Kv* keys = (Kv*)(st.cache + (u64)I.layer * st.layer_bytes) + (u64)kvh * st.capacity * HEAD_DIM;
        Kv* values = (Kv*)((u8*)keys + st.value_offset);
        if (unit != attending()) block_sync();
        // Four lanes a token, eight tokens a warp: each group of lanes keeps its own running maximum, sum and output. What
        // the cache holds is asked for before the step's own values are awaited, and each part of the next tokens as soon
        // as its registers are free. These are scarce (tests/cuda/test_registers.py): so load() reads `l` anew, and values
        // are found from keys.
        const int warps = min(WARPS, (n + 8 * TOKENS - 1) / (8 * TOKENS)), stride = warps * 8 * TOKENS;
        const bool newest = to == span.to && n > 0;
        if (tid == 0) {
            auto& later = block().attending;
            later.unit = unit, later.split = split, later.splits = span.splits, later.head = h0, later.heads = heads, later.warps = warps;
        }
        const Kv* block_keys = keys + (u64)from * HEAD_DIM;
        auto block_values = [&] { return (const Kv*)((const u8*)block_keys + st.value_offset); };
        int i0 = w * 8 * TOKENS + ((tid & 31) >> 2);
        Features key[TOKENS], value[TOKENS];
        auto load = [&](Features (&to)[TOKENS], const Kv* p, bool last_only) {
#pragma unroll
            for (int d = 0; d < TOKENS; ++d)
                if (!last_only || i0 + 8 * d >= n - 1) to[d].load(p + (u64)min(i0 + 8 * d, n - 1) * HEAD_DIM, thread() & 3);
        };
        if (w < warps) load(key, block_keys, false);

        // Eight warps rotate queries; if this unit sees the new token, the others bring it into the cache.
        if (tid < 256) {
            for (int i = tid; i < HEADS * 16 * CHUNKS; i += 256) {
                const int h = i / (16 * CHUNKS), pair = i % (16 * CHUNKS);
                float* to = q + h * 32 * CHUNKS;
                if (h < heads && 2 * pair < HEAD_DIM) {
                    const Pair p(I.x + block().sets.here + (u64)(h0 + h) * HEAD_DIM, pair, row, n_rot, I.pairing);
                    to[p.a] = p.first * I.scale, to[p.b] = p.second * I.scale;
                } else to[2 * pair] = to[2 * pair + 1] = 0.f;
            }
        } else if (newest) {
            const int part = tid - 256;
            const u64 at = (u64)(to - 1) * HEAD_DIM;
            const float* k = I.k_in + block().sets.here + (u64)kvh * HEAD_DIM;
            const float* v = I.v_in + block().sets.here + (u64)kvh * HEAD_DIM;
            if (part < 128)
                for (int pair = part; pair < HEAD_DIM / 2; pair += 128) {
                    const Pair p(k, pair, row, n_rot, I.pairing);
                    kv_store(keys + at + p.a, p.first), kv_store(keys + at + p.b, p.second);
                }
            else
                for (int j = part - 128; j < HEAD_DIM; j += THREADS - 384) kv_store(values + at + j, await(v + j));
        }
        STAMP(1);
        block_sync();
        STAMP(2);

        if (w < warps) {
            if (newest) load(key, block_keys, true);    // its row was written only now
            load(value, block_values(), false);
            float acc[HEADS * CHUNKS * 8], tops[HEADS], totals[HEADS];
#pragma unroll
            for (int i = 0; i < HEADS * CHUNKS * 8; ++i) acc[i] = 0.f;
#pragma unroll
            for (int h = 0; h < HEADS; ++h) tops[h] = -1e30f, totals[h] = 0.f;
#pragma unroll 1
            for (;;) {
                const int i = i0;
                i0 += stride;
                const int l = thread() & 3;
                const bool more = i0 - ((thread() & 31) >> 2) < n;
                float dot[TOKENS][HEADS];
#pragma unroll
                for (int d = 0; d < TOKENS; ++d)
#pragma unroll
                    for (int h = 0; h < HEADS; ++h) dot[d][h] = 0.f;
#pragma unroll
                for (int c = 0; c < CHUNKS; ++c) {
                    float k[TOKENS][8];
#pragma unroll
                    for (int d = 0; d < TOKENS; ++d) key[d].c[c].get(k[d]);
#pragma unroll
                    for (int h = 0; h < HEADS; ++h) {
                        const float4* qs = (const float4*)(q + h * 32 * CHUNKS + (c * 4 + l) * 8);
                        const float4 a = qs[0], b = qs[1];
#pragma unroll
                        for (int d = 0; d < TOKENS; ++d) {
                            dot[d][h] = fmaf(k[d][0], a.x, fmaf(k[d][1], a.y, fmaf(k[d][2], a.z, fmaf(k[d][3], a.w, dot[d][h]))));
                            dot[d][h] = fmaf(k[d][4], b.x, fmaf(k[d][5], b.y, fmaf(k[d][6], b.z, fmaf(k[d][7], b.w, dot[d][h]))));
                        }
                    }
                }
                if (more) load(key, block_keys, false);
                float old[HEADS];
#pragma unroll
                for (int h = 0; h < HEADS; ++h) {
                    float top = tops[h];
#pragma unroll
                    for (int d = 0; d < TOKENS; ++d) {
                        dot[d][h] += __shfl_xor_sync(FULL, dot[d][h], 1);
                        dot[d][h] += __shfl_xor_sync(FULL, dot[d][h], 2);
                        if (i + 8 * d >= n) dot[d][h] = -1e30f;
                        top = fmaxf(top, dot[d][h]);
                    }
                    old[h] = __expf(tops[h] - top);
                    totals[h] *= old[h];
#pragma unroll
                    for (int d = 0; d < TOKENS; ++d) {
                        dot[d][h] = i + 8 * d < n ? __expf(dot[d][h] - top) : 0.f;
                        totals[h] += dot[d][h];
                    }
                    tops[h] = top;
                }
#pragma unroll
                for (int c = 0; c < CHUNKS; ++c) {
                    float v[TOKENS][8];
#pragma unroll
                    for (int d = 0; d < TOKENS; ++d) value[d].c[c].get(v[d]);
#pragma unroll
                    for (int h = 0; h < HEADS; ++h)
#pragma unroll
                        for (int e = 0; e < 8; ++e) {
                            float a = acc[(h * CHUNKS + c) * 8 + e] * old[h];
#pragma unroll
                            for (int d = 0; d < TOKENS; ++d) a = fmaf(dot[d][h], v[d][e], a);
                            acc[(h * CHUNKS + c) * 8 + e] = a;
                        }
                }
                if (!more) break;
                load(value, block_values(), false);
            }
            // The warp's eight groups of lanes, brought to one maximum, then summed by halves.
            const int lane = thread() & 31, w = thread() >> 5, l = lane & 3;
#pragma unroll
            for (int h = 0; h < HEADS; ++h) {
                float top = tops[h];
                top = fmaxf(top, __shfl_xor_sync(FULL, top, 4));
                top = fmaxf(top, __shfl_xor_sync(FULL, top, 8));
                top = fmaxf(top, __shfl_xor_sync(FULL, top, 16));
                const float f = __expf(tops[h] - top);
                float d = totals[h] * f;
                d += __shfl_xor_sync(FULL, d, 4);
                d += __shfl_xor_sync(FULL, d, 8);
                d += __shfl_xor_sync(FULL, d, 16);
                if (lane == 0) warp_tops[w * HEADS + h] = top, warp_totals[w * HEADS + h] = d;
#pragma unroll
                for (int i = 0; i < CHUNKS * 8; ++i) acc[h * CHUNKS * 8 + i] *= f;
            }
            constexpr int N = HEADS * CHUNKS * 8;
            int offset = halve<N / 2>(acc, lane, 16);
            offset += halve<N / 4>(acc, lane, 8);
            offset += halve<N / 8>(acc, lane, 4);
            // acc index (h * CHUNKS + c) * 8 + e of lane l is feature (c * 4 + l) * 8 + e of head h.
#pragma unroll
            for (int i = 0; i < N / 8; ++i) {
                int at = offset + i, h = at / (CHUNKS * 8), c = at / 8 % CHUNKS, e = at % 8;
                warp_sums[(w * HEADS + h) * (32 * CHUNKS) + (c * 4 + l) * 8 + e] = acc[i];
            }
        }
        STAMP(3);
        block_sync();
        STAMP(4);
        const auto& u = block().attending;
        const int warps_then = u.warps;
        for (int i = thread(); i < u.heads * HEAD_DIM; i += THREADS) {
            const Instruction& A = record_at(here().at).instruction;
            const int h = i / HEAD_DIM, j = i % HEAD_DIM, head = u.head + h;
            // What each warp's part counts, every thread for itself: cheaper than one more barrier.
            float top = -1e30f, total = 0.f, sum = 0.f;
#pragma unroll
            for (int v = 0; v < WARPS; ++v) top = fmaxf(top, v < warps_then ? warp_tops[v * HEADS + h] : -1e30f);
#pragma unroll 1
            for (int v = 0; v < warps_then; v += 5)
#pragma unroll
                for (int d = 0; d < 5; ++d)
                    if (v + d < warps_then) {
                        const float f = __expf(warp_tops[(v + d) * HEADS + h] - top);
                        total = fmaf(f, warp_totals[(v + d) * HEADS + h], total);
                        sum = fmaf(f, warp_sums[((v + d) * HEADS + h) * (32 * CHUNKS) + j], sum);
                    }
            if (u.splits == 1) {
                if (A.sinks) {
                    float sink = A.sinks[head], all = fmaxf(top, sink), f = __expf(top - all);
                    sum *= f;
                    total = fmaf(total, f, __expf(sink - all));
                }
                publish(A.out + (u64)head * HEAD_DIM + j, block().sets, __fdividef(sum, total));
            } else {
                publish(partial_sums(A, u.split) + head * HEAD_DIM + j, block().sets, sum);
                if (j < 2) publish(partial_counts(A, u.split) + head * 2 + j, block().sets, j ? total : top);
            }
        }
    }
}
