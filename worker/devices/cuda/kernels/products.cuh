// Products of stored matrices with one vector.
#pragma once

// Warps share a run's units out evenly; octet o's sum over warp w lands at part[(o + w) * 8]: along the stream o + w
// grows by at least one at each change.
DEV int first_unit(int units, int w) { return units >= WARPS ? units * w >> 4 : min(w, units); }
// The warp that has unit i.
DEV int warp_of(int i, const Run& r) { return r.units >= WARPS ? quotient(WARPS * (i + 1) - 1, r.inv_units) : i; }

template <int TYPE>
DEV void stream_quantized(const Run& r, const u32* planes, const float* xsum, float unit, float* part) {
    typedef Unit<TYPE> U;
    const int lane = threadIdx.x & 31, w = threadIdx.x >> 5;
    const Lane l = {lane >> 2, lane & 3, (lane >> 1) & 1};
    int left = first_unit(r.units, w);
    const int per = r.per;
    int o = quotient(left, r.inv_per), i = left - o * per;
    const u8* p = r.base + (u64)left * U::BYTES;
    left = first_unit(r.units, w + 1) - left;
    if (left <= 0) return;
    const u32* x = planes + plane_offset(lane, U::DISTANCE);
    const float factor = U::factor() * unit;
    float* out = part + (o + w) * 8 + l.g;
    U in_flight[U::DEPTH];
#pragma unroll
    for (int d = 0; d < U::DEPTH; ++d) if (d < left) in_flight[d].load(p + d * U::BYTES, lane, l);
    Sum sum;
    sum.clear();
    // Unrolled by what is in flight: a register that waits for memory must not be moved.
#pragma unroll 1
    while (left > 0) {
#pragma unroll
        for (int d = 0; d < U::DEPTH; ++d) {
            if (left <= 0) break;
            in_flight[d].dot(sum, x + i * (U::K / 32 * BLOCK_WORDS), xsum + i * (U::K / 32), l);
            if (U::DEPTH < left) in_flight[d].load(p + U::DEPTH * U::BYTES, lane, l);
            p += U::BYTES;
            --left;
            if (++i == per || left == 0) {
                float v = sum.total(l.t, factor);
                if (l.t == 0) *out = v;
                out += 8;
                sum.clear();
                i = 0;
            }
        }
    }
}

// Float weights stay row by row; a lane takes 16 neighbouring weights of its row. Units of 64, K a multiple of 8.
template <int TYPE>
DEV void stream_float(const Run& r, int k, const float* x, float* part) {
    const int lane = threadIdx.x & 31, w = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int size = TYPE == F32 ? 4 : 2, per = r.per, end = first_unit(r.units, w + 1);
    int u = first_unit(r.units, w);
    int o = quotient(u, r.inv_per), i = u - o * per;
    float sum = 0.f;
#pragma unroll 1
    for (; u < end; ++u) {
        int row = min(o * 8 + g, r.rows - 1), k0 = i * 64 + t * 16;
        const u8* p = r.base + ((u64)row * k + k0) * size;
        uint4 q[TYPE == F32 ? 4 : 2];
#pragma unroll
        for (int j = 0; j < (TYPE == F32 ? 4 : 2); ++j) {
            q[j] = make_uint4(0, 0, 0, 0);
            if (k0 + (TYPE == F32 ? 4 : 8) * j < k) q[j] = weight128(p + 16 * j);
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            if (k0 + 4 * j >= k) break;
            float v[4];
            if (TYPE == F32) {
                v[0] = __uint_as_float(q[j].x), v[1] = __uint_as_float(q[j].y), v[2] = __uint_as_float(q[j].z), v[3] = __uint_as_float(q[j].w);
            } else {
                const u32 a = j & 1 ? q[j >> 1].z : q[j >> 1].x, b = j & 1 ? q[j >> 1].w : q[j >> 1].y;
                v[0] = TYPE == F16 ? from_half(a & 0xffff) : from_bf16(a & 0xffff), v[1] = TYPE == F16 ? from_half(a >> 16) : from_bf16(a >> 16);
                v[2] = TYPE == F16 ? from_half(b & 0xffff) : from_bf16(b & 0xffff), v[3] = TYPE == F16 ? from_half(b >> 16) : from_bf16(b >> 16);
            }
            const float4 c = *(const float4*)(x + k0 + 4 * j);
            sum = fmaf(v[0], c.x, fmaf(v[1], c.y, fmaf(v[2], c.z, fmaf(v[3], c.w, sum))));
        }
        if (++i == per || u + 1 == end) {
            sum += __shfl_xor_sync(FULL, sum, 1);
            sum += __shfl_xor_sync(FULL, sum, 2);
            if (t == 0) part[(o + w) * 8 + g] = sum;
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

DEV void stream(const Run& r, int k, const u32* planes, const float* xsum, const float* floats, float unit, float* part) {
    switch (r.type) {
        case F32: if (HAS(F32)) stream_float<F32>(r, k, floats, part); break;
        case F16: if (HAS(F16)) stream_float<F16>(r, k, floats, part); break;
        case BF16: if (HAS(BF16)) stream_float<BF16>(r, k, floats, part); break;
        case Q4_0: if (HAS(Q4_0)) stream_quantized<Q4_0>(r, planes, xsum, unit, part); break;
        case Q4_1: if (HAS(Q4_1)) stream_quantized<Q4_1>(r, planes, xsum, unit, part); break;
        case Q5_0: if (HAS(Q5_0)) stream_quantized<Q5_0>(r, planes, xsum, unit, part); break;
        case Q5_1: if (HAS(Q5_1)) stream_quantized<Q5_1>(r, planes, xsum, unit, part); break;
        case Q8_0: if (HAS(Q8_0)) stream_quantized<Q8_0>(r, planes, xsum, unit, part); break;
        case Q4_K: if (HAS(Q4_K)) stream_quantized<Q4_K>(r, planes, xsum, unit, part); break;
        case Q5_K: if (HAS(Q5_K)) stream_quantized<Q5_K>(r, planes, xsum, unit, part); break;
        case Q6_K: if (HAS(Q6_K)) stream_quantized<Q6_K>(r, planes, xsum, unit, part); break;
        case MXFP4: if (HAS(MXFP4)) stream_quantized<MXFP4>(r, planes, xsum, unit, part); break;
    }
}

// The finished sum of one row of a run, over the warps that shared its octet, in warp order.
DEV float row_sum(const Run& r, const float* parts, int row) {
    const int o = row >> 3, first = warp_of(o * r.per, r), last = warp_of((o + 1) * r.per - 1, r);
    const float* part = parts + r.part + (o + first) * 8 + (row & 7);
    float v = *part;
    for (int w = first; w < last; ++w) v += *(part += 8);
    return v;
}

// Octets [from, to) of a stored matrix.
DEV const u8* octets_at(const Part& p, int k, int from, int expert) {
    return p.base + (u64)expert * p.expert_bytes + (u64)from * octet_bytes(p.type, k);
}
