// Attention's splits of a long context, put together: by the product behind it, or by an instruction of its own where
// somebody watches what lies between.
#pragma once

// The splits of each head put together, where no product does it: two lanes for each split of eight features.
CALL void do_combine(int instruction) {
    const Instruction& I = record_at(instruction).instruction;
    const Sets sets = block().sets;
    const Span span = span_of(I, block().state);
    if (span.splits == 1) return;
    constexpr int EIGHTS = HEAD_DIM / 8;
    int from, to, lanes = 8;
    while (lanes < 2 * span.splits && lanes < 32) lanes *= 2;
    share(I.n_head * EIGHTS, from, to);
    const int r = thread() & (lanes - 1), half = r & 1, at_once = THREADS / lanes;
    for (int base = from; base < to; base += at_once) {
        const int mine = base + (int)thread() / lanes, i = min(mine, to - 1), head = i / EIGHTS;
        const float* sums = I.partial + sets.here + i * 8 + half * 4;
        const float* counts = partial_counts(I, 0) + sets.here + head * 2 + half;
        const int width = I.n_head * HEAD_DIM, pairs = I.n_head * 2;
        float top = -1e30f, total = 0.f;
        float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 1
        for (int begin = 0; begin < span.splits; begin += lanes / 2) {
            const int split = begin + (r >> 1), at = min(split, span.splits - 1);
            float4 v = glance4(sums + at * width);
            float count = glance(counts + at * pairs);
            v = await4(sums + at * width, v), count = await(counts + at * pairs, count);
            __syncwarp();
            const float m = __shfl_sync(FULL, count, r & ~1, lanes), l = __shfl_sync(FULL, count, r | 1, lanes);
            if (split >= span.splits) continue;
            const float all = fmaxf(top, m), a = __expf(top - all), b = __expf(m - all);
            total = fmaf(total, a, l * b);
            sum = plus(times(sum, a), times(v, b));
            top = all;
        }
        float all = top;
        for (int d = lanes / 2; d > 1; d >>= 1) all = fmaxf(all, __shfl_xor_sync(FULL, all, d));
        const float sink = I.sinks ? constant(I.sinks + head) : all;
        all = fmaxf(all, sink);
        const float f = __expf(top - all);
        total *= f, sum = times(sum, f);
        for (int d = lanes / 2; d > 1; d >>= 1) {
            total += __shfl_xor_sync(FULL, total, d);
            sum.x += __shfl_xor_sync(FULL, sum.x, d), sum.y += __shfl_xor_sync(FULL, sum.y, d);
            sum.z += __shfl_xor_sync(FULL, sum.z, d), sum.w += __shfl_xor_sync(FULL, sum.w, d);
        }
        if (I.sinks) total += __expf(sink - all);
        // The four values of a half, by four of its lanes.
        const int e = r >> 1;
        const float v = e == 0 ? sum.x : e == 1 ? sum.y : e == 2 ? sum.z : sum.w;
        if (e < 4 && mine < to) publish(I.out + i * 8 + half * 4 + e, sets, __fdividef(v, total));
    }
}

// Where a product follows, it takes attention's output in splits: its blocks join them as they prepare it.

#define BATCH 4                 // splits whose values a lane has asked for at once

struct Joined { float4 sum; float top, total; };

// Four neighbours of the attention's output over splits [first, last), not yet divided by their total.
DEV Joined join(const Instruction& I, int j, int first, int last) {
    const int width = I.n_head * HEAD_DIM, pairs = I.n_head * 2;
    const float* sums = partial_sums(I, first) + block().sets.here + j;
    const float* counts = partial_counts(I, first) + block().sets.here + j / HEAD_DIM * 2;
    Joined a = {make_float4(0.f, 0.f, 0.f, 0.f), -1e30f, 0.f};
#pragma unroll 1
    for (int left = last - first; left > 0; left -= BATCH) {
        float4 v[BATCH];
        float2 c[BATCH];
#pragma unroll
        for (int d = 0; d < BATCH; ++d)
            if (d < left) v[d] = glance4(sums + d * width), c[d] = glance2(counts + d * pairs);
            else v[d] = make_float4(0.f, 0.f, 0.f, 0.f), c[d] = make_float2(-1e30f, 0.f);
        for (u32 n = 0; ; spun(n)) {
            bool missing = false;
#pragma unroll
            for (int d = 0; d < BATCH; ++d) missing |= armed(v[d]) || armed(c[d]);
            if (!missing) break;
#pragma unroll
            for (int d = 0; d < BATCH; ++d) {
                if (armed(v[d])) v[d] = glance4(sums + d * width);
                if (armed(c[d])) c[d] = glance2(counts + d * pairs);
            }
        }
        float all = a.top;
#pragma unroll
        for (int d = 0; d < BATCH; ++d) all = fmaxf(all, c[d].x);
        const float f = __expf(a.top - all);
        a.total *= f, a.sum = times(a.sum, f);
#pragma unroll
        for (int d = 0; d < BATCH; ++d) {
            const float e = __expf(c[d].x - all);
            a.total = fmaf(e, c[d].y, a.total);
            a.sum = plus(a.sum, times(v[d], e));
        }
        a.top = all;
        sums += BATCH * width, counts += BATCH * pairs;
    }
    __syncwarp();
    return a;
}

// prepare() for a product of attention's output that is still in splits.
CALL void prepare_joined(int instruction) {
    const Instruction& I = record_at(instruction).instruction;
    const int splits = span_of(I, block().state).splits, lane = thread() & 31, w = thread() >> 5, k = I.k;
    if (splits == 1 || record_at(instruction).plan.n == 0) return;
    const Vectors to(I, 1);
    const int pieces = to.blocks >> 2, real = (k + 127) / 128;
    // Many splits of a short vector: two warps a piece.
    const bool halved = splits > BATCH && 2 * real <= WARPS;
    const int middle = halved ? (splits + 1) / 2 : splits;
    float4* sums = (float4*)sums_at();
    float2* counts = (float2*)(sums + real * 32);
#pragma unroll 1
    for (int p = w; p < (halved ? 2 * real : pieces); p += WARPS) {
        const bool second = halved && p >= real;
        const int piece = second ? p - real : p, j = piece * 128 + lane * 4, i = piece * 32 + lane;
        float4 v = make_float4(0.f, 0.f, 0.f, 0.f);
        if (piece < real) {
            Joined a = join(I, min(j, k - 4), second ? middle : 0, second ? splits : middle);
            STAMP(1);
            if (second) {
                sums[i] = a.sum, counts[i] = make_float2(a.top, a.total);
                asm volatile("bar.arrive 2, %0;" :: "r"(2 * real * 32) : "memory");
                break;
            }
            if (halved) {
                asm volatile("bar.sync 2, %0;" :: "r"(2 * real * 32) : "memory");
                const float4 sum = sums[i];
                const float2 c = counts[i];
                const float all = fmaxf(a.top, c.x), e = __expf(a.top - all), f = __expf(c.x - all);
                a.sum = plus(times(a.sum, e), times(sum, f)), a.total = fmaf(a.total, e, c.y * f), a.top = all;
            }
            if (I.sinks) {
                const float sink = constant(I.sinks + min(j, k - 4) / HEAD_DIM), all = fmaxf(a.top, sink), e = __expf(a.top - all);
                a.sum = times(a.sum, e), a.total = fmaf(a.total, e, __expf(sink - all));
            }
            if (j < k) v = times(a.sum, __fdividef(1.f, a.total));
        }
        store_piece(I.flags, to, piece, lane, v);
    }
    if (halved && w == WARPS - 1 && real < pieces) store_piece(I.flags, to, real, lane, make_float4(0.f, 0.f, 0.f, 0.f));
}
