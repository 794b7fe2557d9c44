// Products of stored matrices with one vector. Weights come out of the warp's ring.
#pragma once

// A warp's end of its ring, all lanes alike.
struct Feed {
    Taken now;
    int warp;

    DEV Feed(int w) : warp(w) {
        __syncwarp();
        now.bytes = *(volatile u32*)&block().taken[w].bytes, now.chunks = *(volatile u32*)&block().taken[w].chunks;
    }
    // The next chunk, once it is there.
    DEV const u8* wait(u32 size) {
        const u32 at = ring_place(now.bytes, size);
        barrier_wait(block().full + warp * RING_CHUNKS + now.chunks % RING_CHUNKS, now.chunks / RING_CHUNKS);
        return smem + RING_AT + warp * RING_BYTES + at;
    }
    // All lanes have what they need of it.
    DEV void release(u32 size) {
        now.bytes += ring_charge(size);
        ++now.chunks;
        __syncwarp();
        if ((thread() & 31) == 0)
            asm volatile("st.volatile.shared.v2.u32 [%0], {%1, %2};" :: "r"(shared_address(block().taken + warp)), "r"(now.bytes), "r"(now.chunks) : "memory");
    }
};

// Warps share the units of all runs out evenly; group o's sum over warp w lands at part[(o + w) * 8]: along the stream
// o + w grows by at least one at each change.
DEV int first_unit(const Run& r, int w) {
    const int first = r.total >= WARPS ? r.total * w / WARPS : w;
    return min(max(first - r.before, 0), r.units);
}
// The warp that has unit i.
DEV int warp_of(int i, const Run& r) { return r.total >= WARPS ? quotient(WARPS * (r.before + i + 1) - 1, r.inv_total) : r.before + i; }

// Units of a chunk.
template <int TYPE> DEV constexpr int chunk_of() { return CHUNK_BYTES / Unit<TYPE>::BYTES; }

DEV Stretch stretch_of(const Run& r, int w) {
    const int first = first_unit(r, w), group = quotient(first, r.inv_per);
    return {group, first - group * r.per, first_unit(r, w + 1) - first};
}

template <int TYPE>
DEV void stream_quantized(const Run& r, Stretch mine, const u32* planes, const float* xsum, const float* xscale, float* part, Feed& feed) {
    typedef Unit<TYPE> U;
    const int lane = thread() & 31, w = thread() >> 5;
    const Lane l = {lane >> 2, lane & 3, (lane >> 1) & 1};
    const int per = r.per;
    int left = mine.n, o = mine.group, i = mine.unit;
    const u32* x = planes + plane_offset(lane, U::DISTANCE);
    if (U::K == 256) xscale += l.h;
    float* out = part + (o + w) * 8 + l.g;
    Sum sum;
    sum.clear();
    auto multiply = [&](const U& u, bool last) {
        u.dot(sum, x + i * (U::K / 32 * BLOCK_WORDS), xsum + i * (U::K / 32), xscale[i * (U::K / 128)], l);
        if (++i == per || last) {
            float v = sum.total(l.t, U::factor());
            if (l.t == 0) *out = v;
            out += 8;
            sum.clear();
            i = 0;
        }
    };
#pragma unroll 1
    while (left > 0) {
        const int n = min(left, chunk_of<TYPE>());
        const u8* p = feed.wait(n * U::BYTES);
#pragma unroll
        for (int d = 0; d < chunk_of<TYPE>(); ++d) {
            if (d >= n) break;
            U u;
            u.load(p + d * U::BYTES, lane, l);
            multiply(u, d + 1 == left);
        }
        left -= n;
        feed.release(n * U::BYTES);
    }
}

// Float weights stay row by row; a lane takes four neighbouring weights of a unit. k is a multiple of 8.
template <int TYPE>
DEV void stream_float(const Run& r, Stretch mine, int k, const float* x, float* part, Feed& feed) {
    const int lane = thread() & 31, w = thread() >> 5, bytes = TYPE == F32 ? 512 : 256;
    const int per = r.per;
    int left = mine.n, o = mine.group, i = mine.unit;
    float sum = 0.f;
#pragma unroll 1
    while (left > 0) {
        const int n = min(min(CHUNK_BYTES / bytes, left), per - i), size = min(n * bytes, r.stride - i * bytes);
        const u8* p = feed.wait(size);
#pragma unroll
        for (int d = 0; d < CHUNK_BYTES / bytes; ++d) {
            const int k0 = (i + d) * 128 + lane * 4;
            if (d >= n || k0 >= k) break;
            float v[4];
            if (TYPE == F32) {
                const uint4 q = word128(p + d * bytes + lane * 16);
                v[0] = __uint_as_float(q.x), v[1] = __uint_as_float(q.y), v[2] = __uint_as_float(q.z), v[3] = __uint_as_float(q.w);
            } else {
                const uint2 q = word64(p + d * bytes + lane * 8);
                v[0] = TYPE == F16 ? from_half(q.x & 0xffff) : from_bf16(q.x & 0xffff), v[1] = TYPE == F16 ? from_half(q.x >> 16) : from_bf16(q.x >> 16);
                v[2] = TYPE == F16 ? from_half(q.y & 0xffff) : from_bf16(q.y & 0xffff), v[3] = TYPE == F16 ? from_half(q.y >> 16) : from_bf16(q.y >> 16);
            }
            const float4 c = *(const float4*)(x + k0);
            sum = fmaf(v[0], c.x, fmaf(v[1], c.y, fmaf(v[2], c.z, fmaf(v[3], c.w, sum))));
        }
        feed.release(size);
        left -= n, i += n;
        if (i == per || left == 0) {
            sum = warp_sum(sum);
            if (lane == 0) part[(o + w) * 8] = sum;
            sum = 0.f;
            i = 0;
            ++o;
        }
    }
}

#ifndef TYPES
#define TYPES 0xffffffffffffffffull     // bit t: the model stores weights of type t
#endif
#define HAS(t) (((unsigned long long)TYPES >> (t)) & 1)

DEV void stream(const Run& r, Stretch mine, int k, const u32* planes, const float* xsum, const float* xscale, const float* floats, float* part, Feed& feed) {
    switch (r.type) {
        case F32: if (HAS(F32)) stream_float<F32>(r, mine, k, floats, part, feed); break;
        case F16: if (HAS(F16)) stream_float<F16>(r, mine, k, floats, part, feed); break;
        case BF16: if (HAS(BF16)) stream_float<BF16>(r, mine, k, floats, part, feed); break;
#define CASE(T) case T: if (HAS(T)) stream_quantized<T>(r, mine, planes, xsum, xscale, part, feed); break;
        EACH_QUANTIZED(CASE)
#undef CASE
    }
}

// Where the sums of one row of a run lie that its warps made, one every eight floats, and how many.
struct RowSums { int at, n; };

DEV RowSums sums_of(const Run& r, int row) {
    const int o = is_float(r.type) ? row : row >> 3, e = is_float(r.type) ? 0 : row & 7;
    const int first = warp_of(o * r.per, r), last = warp_of((o + 1) * r.per - 1, r);
    return {r.part + (o + first) * 8 + e, last - first + 1};
}
// Their sum, in one order.
DEV float row_sum(const float* p, int n) {
    float a[16], v = 0.f;
#pragma unroll
    for (int w = 0; w < 16; ++w) a[w] = w < n ? p[8 * w] : 0.f;
#pragma unroll
    for (int w = 0; w < 16; w += 4) v += (a[w] + a[w + 1]) + (a[w + 2] + a[w + 3]);
    return v;
}
