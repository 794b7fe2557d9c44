// Products of stored matrices with one vector.
#pragma once

// A run: neighbouring octets of one stored matrix, one stream of bytes. Warps share its units out evenly; octet o's
// sum over warp w lands at part[(o + w) * 8]: along the stream o + w grows by at least one at each change.
DEV int warps_of(int units) { return min(units, WARPS); }
DEV int warp_of(int unit, int units, int warps) { return (warps * (unit + 1) - 1) / units; }

template <int TYPE>
CALL void stream_quantized(const u8* base, int octets, int k, const u32* planes, const float* xsum, float unit, float* part) {
    typedef Unit<TYPE> U;
    const int lane = threadIdx.x & 31, w = threadIdx.x >> 5;
    const Lane l = {lane >> 2, lane & 3, (lane >> 1) & 1};
    const int per_octet = (k + U::K - 1) / U::K, n = octets * per_octet, warps = warps_of(n);
    if (w >= warps) return;
    int u = n * w / warps;
    const int end = n * (w + 1) / warps;
    int o = u / per_octet, i = u - o * per_octet;
    const u32* x = planes + plane_offset(lane, U::DISTANCE);
    const u8* p = base + (u64)u * U::BYTES;
    const float factor = U::factor() * unit;
    U in_flight[U::DEPTH];
#pragma unroll
    for (int d = 0; d < U::DEPTH; ++d) if (u + d < end) in_flight[d].load(p + (u64)d * U::BYTES, lane, l);
    Sum sum;
    sum.clear();
    for (; u < end; u += U::DEPTH) {
#pragma unroll
        for (int d = 0; d < U::DEPTH; ++d)
            if (u + d < end) {
                U now = in_flight[d];
                if (u + d + U::DEPTH < end) in_flight[d].load(p + (u64)(d + U::DEPTH) * U::BYTES, lane, l);
                now.dot(sum, x + i * (U::K / 32) * BLOCK_WORDS, xsum + i * (U::K / 32), l);
                if (++i == per_octet || u + d + 1 == end) {
                    float v = sum.total(l.t, factor);
                    if (l.t == 0) part[(o + w) * 8 + l.g] = v;
                    sum.clear();
                    i = 0;
                    ++o;
                }
            }
        p += (u64)U::DEPTH * U::BYTES;
    }
}

// Float weights stay row by row; a lane takes 16 neighbouring weights of its row. Units of 64, K a multiple of 8.
template <int TYPE>
CALL void stream_float(const u8* base, int octets, int rows, int k, const float* x, float* part) {
    const int lane = threadIdx.x & 31, w = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int per_octet = (k + 63) / 64, n = octets * per_octet, warps = warps_of(n);
    if (w >= warps) return;
    const int size = TYPE == F32 ? 4 : 2;
    int u = n * w / warps;
    const int end = n * (w + 1) / warps;
    int o = u / per_octet, i = u - o * per_octet;
    float sum = 0.f;
    for (; u < end; ++u) {
        int row = min(o * 8 + g, rows - 1), k0 = i * 64 + t * 16;
        const u8* p = base + ((u64)row * k + k0) * size;
#pragma unroll
        for (int j = 0; j < 2; ++j)
            if (k0 + 8 * j < k) {
                float v[8];
                if (TYPE == F32) {
                    uint4 a = weight128(p + 32 * j), b = weight128(p + 32 * j + 16);
                    v[0] = __uint_as_float(a.x); v[1] = __uint_as_float(a.y); v[2] = __uint_as_float(a.z); v[3] = __uint_as_float(a.w);
                    v[4] = __uint_as_float(b.x); v[5] = __uint_as_float(b.y); v[6] = __uint_as_float(b.z); v[7] = __uint_as_float(b.w);
                } else {
                    uint4 a = weight128(p + 16 * j);
                    u32 q[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        v[2 * e] = TYPE == F16 ? from_half(q[e] & 0xffff) : from_bf16(q[e] & 0xffff);
                        v[2 * e + 1] = TYPE == F16 ? from_half(q[e] >> 16) : from_bf16(q[e] >> 16);
                    }
                }
                const float4* xs = (const float4*)(x + k0 + 8 * j);
                float4 a = xs[0], b = xs[1];
                sum = fmaf(v[0], a.x, fmaf(v[1], a.y, fmaf(v[2], a.z, fmaf(v[3], a.w, sum))));
                sum = fmaf(v[4], b.x, fmaf(v[5], b.y, fmaf(v[6], b.z, fmaf(v[7], b.w, sum))));
            }
        if (++i == per_octet || u + 1 == end) {
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

struct Run { const u8* base; int type, octets, rows; };

CALL void stream(const Run& r, int k, const Memory& m, float unit, float* part) {
    switch (r.type) {
        case F32: if (HAS(F32)) stream_float<F32>(r.base, r.octets, r.rows, k, m.floats, part); break;
        case F16: if (HAS(F16)) stream_float<F16>(r.base, r.octets, r.rows, k, m.floats, part); break;
        case BF16: if (HAS(BF16)) stream_float<BF16>(r.base, r.octets, r.rows, k, m.floats, part); break;
        case Q4_0: if (HAS(Q4_0)) stream_quantized<Q4_0>(r.base, r.octets, k, m.planes, m.xsum, unit, part); break;
        case Q4_1: if (HAS(Q4_1)) stream_quantized<Q4_1>(r.base, r.octets, k, m.planes, m.xsum, unit, part); break;
        case Q5_0: if (HAS(Q5_0)) stream_quantized<Q5_0>(r.base, r.octets, k, m.planes, m.xsum, unit, part); break;
        case Q5_1: if (HAS(Q5_1)) stream_quantized<Q5_1>(r.base, r.octets, k, m.planes, m.xsum, unit, part); break;
        case Q8_0: if (HAS(Q8_0)) stream_quantized<Q8_0>(r.base, r.octets, k, m.planes, m.xsum, unit, part); break;
        case Q4_K: if (HAS(Q4_K)) stream_quantized<Q4_K>(r.base, r.octets, k, m.planes, m.xsum, unit, part); break;
        case Q5_K: if (HAS(Q5_K)) stream_quantized<Q5_K>(r.base, r.octets, k, m.planes, m.xsum, unit, part); break;
        case Q6_K: if (HAS(Q6_K)) stream_quantized<Q6_K>(r.base, r.octets, k, m.planes, m.xsum, unit, part); break;
        case MXFP4: if (HAS(MXFP4)) stream_quantized<MXFP4>(r.base, r.octets, k, m.planes, m.xsum, unit, part); break;
    }
}

// The finished sum of one row of a run, over the warps that shared its octet, in warp order.
DEV float row_sum(const Run& r, int k, const float* part, int row) {
    int o = row >> 3, per = (k + unit_of(r.type) - 1) / unit_of(r.type), n = r.octets * per, warps = warps_of(n);
    int first = warp_of(o * per, n, warps), last = warp_of((o + 1) * per - 1, n, warps);
    float v = 0.f;
    for (int w = first; w <= last; ++w) v += part[(o + w) * 8 + (row & 7)];
    return v;
}

DEV float swiglu(float gate, float up) { return gate / (1.f + expf(-gate)) * up; }
DEV float swiglu_oai(float gate, float up) {
    gate = fminf(gate, 7.f);
    up = fminf(fmaxf(up, -7.f), 7.f);
    return gate / (1.f + expf(-1.702f * gate)) * (up + 1.f);
}
DEV float gelu(float x) {
    return 0.5f * x * (1.f + tanhf(0.79788456080286535588f * x * fmaf(0.044715f * x, x, 1.f)));
}

DEV void share(int total, int& from, int& to) {
    from = (int)((u64)total * blockIdx.x / gridDim.x);
    to = (int)((u64)total * (blockIdx.x + 1) / gridDim.x);
}

// Octets [from, to) of part p as a run.
DEV Run run_of(const Part& p, int k, int from, int to, int expert) {
    Run r;
    r.type = p.type;
    r.octets = to - from;
    r.rows = min(p.rows - from * 8, r.octets * 8);
    r.base = p.base + (u64)expert * p.expert_bytes + (u64)from * octet_bytes(p.type, k);
    return r;
}
