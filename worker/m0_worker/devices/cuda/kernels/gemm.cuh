// Products of stored matrices with many vectors, on the tensor cores: weights are dequantized to FP16 in registers, in
// the very order in which the units hold them, activations are FP16 with a power of two per row, sums are float32.
//
// Activations lie permuted in fours (0, 2, 1, 3), so that two halves made out of bytes 0 and 2 of a word of weights meet
// their partners. wide.cuh has another order.
#pragma once

#define WEIGHT_SCALE 256.f      // keeps small weights out of FP16's subnormals; weights up to 255 fit
#define X_PITCH 144             // halves of a row of activations in shared memory: 128 and a shift of eight banks

DEV u32 h2(float v) { return to_half2(v, v); }
DEV u32 sub2(u32 a, u32 b) { u32 d; asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b)); return d; }
DEV u32 mul2(u32 a, u32 b) { u32 d; asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b)); return d; }
DEV u32 fma2(u32 a, u32 b, u32 c) { u32 d; asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c)); return d; }

// Four weights of a row: bytes 0 and 2, then 1 and 3, less `offset` + 1024, times scale, plus shift.
struct Four { u32 a, b; };
DEV Four four(u32 bytes, float offset, u32 scale) {
    const u32 o = h2(1024.f + offset);
    return {mul2(sub2(__byte_perm(bytes, 0x64646464u, 0x4240), o), scale), mul2(sub2(__byte_perm(bytes, 0x64646464u, 0x4341), o), scale)};
}
DEV Four four(u32 bytes, u32 scale, u32 shift) {
    const u32 o = h2(1024.f);
    return {fma2(sub2(__byte_perm(bytes, 0x64646464u, 0x4240), o), scale, shift), fma2(sub2(__byte_perm(bytes, 0x64646464u, 0x4341), o), scale, shift)};
}

// One row's share of a lane in 128 weights: block(b) gives k = 4t..4t+3 and 16+4t..16+4t+3 of 32-block b.
template <int TYPE> struct Tile;

template <> struct Tile<Q4_0> {
    uint4 q; uint2 d;
    DEV void load(const u8* p, int, int lane, int g) { q = weight128(p + lane * 16); d = weight64(p + 512 + g * 8); }
    template <int B> DEV void block(Four& lo, Four& hi) const {
        const u32 w = B == 0 ? q.x : B == 1 ? q.y : B == 2 ? q.z : q.w;
        const u32 s = h2(from_half((B < 2 ? d.x : d.y) >> (16 * (B & 1))) * WEIGHT_SCALE);
        lo = four(low_nibbles_u(w), 8.f, s), hi = four(high_nibbles_u(w), 8.f, s);
    }
};
template <> struct Tile<MXFP4> {
    uint4 q; u32 e;
    DEV void load(const u8* p, int, int lane, int g) { q = weight128(p + lane * 16); e = weight32(p + 512 + g * 4); }
    template <int B> DEV void block(Four& lo, Four& hi) const {
        const u32 w = B == 0 ? q.x : B == 1 ? q.y : B == 2 ? q.z : q.w;
        const u32 s = h2(from_e8m0_half(e >> (8 * B) & 0xff) * WEIGHT_SCALE);
        lo = four(e2m1(w) ^ 0x80808080u, 128.f, s), hi = four(e2m1(w >> 16) ^ 0x80808080u, 128.f, s);
    }
};
template <> struct Tile<Q4_1> {
    uint4 q, dm;
    DEV void load(const u8* p, int, int lane, int g) { q = weight128(p + lane * 16); dm = weight128(p + 512 + g * 16); }
    template <int B> DEV void block(Four& lo, Four& hi) const {
        const u32 w = B == 0 ? q.x : B == 1 ? q.y : B == 2 ? q.z : q.w, m = B == 0 ? dm.x : B == 1 ? dm.y : B == 2 ? dm.z : dm.w;
        const u32 s = h2(from_half(m & 0xffff) * WEIGHT_SCALE), z = h2(from_half(m >> 16) * WEIGHT_SCALE);
        lo = four(low_nibbles_u(w), s, z), hi = four(high_nibbles_u(w), s, z);
    }
};
template <> struct Tile<Q5_0> {
    uint4 q; u32 top; uint2 d;
    DEV void load(const u8* p, int, int lane, int g) {
        q = weight128(p + lane * 16); top = weight32(p + 512 + lane * 4); d = weight64(p + 640 + g * 8);
    }
    template <int B> DEV void block(Four& lo, Four& hi) const {     // bytes are 8 q
        const u32 w = B == 0 ? q.x : B == 1 ? q.y : B == 2 ? q.z : q.w;
        const u32 s = h2(from_half((B < 2 ? d.x : d.y) >> (16 * (B & 1))) * (WEIGHT_SCALE / 8.f));
        const u32 a = ((w << 3) & 0x78787878u) | (~(top << (7 - 2 * B)) & 0x80808080u);
        const u32 b = ((w >> 1) & 0x78787878u) | (~(top << (6 - 2 * B)) & 0x80808080u);
        lo = four(a, 128.f, s), hi = four(b, 128.f, s);
    }
};
template <> struct Tile<Q5_1> {
    uint4 q, dm; u32 top;
    DEV void load(const u8* p, int, int lane, int g) {
        q = weight128(p + lane * 16); top = weight32(p + 512 + lane * 4); dm = weight128(p + 640 + g * 16);
    }
    template <int B> DEV void block(Four& lo, Four& hi) const {
        const u32 w = B == 0 ? q.x : B == 1 ? q.y : B == 2 ? q.z : q.w, m = B == 0 ? dm.x : B == 1 ? dm.y : B == 2 ? dm.z : dm.w;
        const u32 s = h2(from_half(m & 0xffff) * WEIGHT_SCALE), z = h2(from_half(m >> 16) * WEIGHT_SCALE);
        lo = four(low_nibbles_u(w) | ((top >> (2 * B)) & 0x01010101u) << 4, s, z);
        hi = four(high_nibbles_u(w) | ((top >> (2 * B + 1)) & 0x01010101u) << 4, s, z);
    }
};
template <> struct Tile<Q8_0> {
    uint4 q0, q1; uint2 d;
    DEV void load(const u8* p, int, int lane, int g) {
        q0 = weight128(p + lane * 16); q1 = weight128(p + 512 + lane * 16); d = weight64(p + 1024 + g * 8);
    }
    template <int B> DEV void block(Four& lo, Four& hi) const {
        const u32 s = h2(from_half((B < 2 ? d.x : d.y) >> (16 * (B & 1))) * WEIGHT_SCALE);
        lo = four((B == 0 ? q0.x : B == 1 ? q0.z : B == 2 ? q1.x : q1.z) ^ 0x80808080u, 128.f, s);
        hi = four((B == 0 ? q0.y : B == 1 ? q0.w : B == 2 ? q1.y : q1.w) ^ 0x80808080u, 128.f, s);
    }
};
template <> struct Tile<Q4_K> {
    uint4 q, s; int h;
    DEV void load(const u8* p, int half, int lane, int g) { q = weight128(p + half * 512 + lane * 16); s = weight128(p + 1024 + g * 16); h = half; }
    template <int B> DEV void scales(u32& sc, u32& z) const {
        sc = h2(from_half(s.x & 0xffff) * byte_f(six_bits(s.y, s.w, h), B) * WEIGHT_SCALE);
        z = h2(-from_half(s.x >> 16) * byte_f(six_bits(s.z, s.w >> 4, h), B) * WEIGHT_SCALE);
    }
    template <int B> DEV void block(Four& lo, Four& hi) const {
        u32 sc, z;
        scales<B>(sc, z);
        const u32 a = B < 2 ? q.x : q.z, b = B < 2 ? q.y : q.w;
        lo = four(B & 1 ? high_nibbles_u(a) : low_nibbles_u(a), sc, z), hi = four(B & 1 ? high_nibbles_u(b) : low_nibbles_u(b), sc, z);
    }
};
template <> struct Tile<Q5_K> {
    Tile<Q4_K> k; uint2 top;
    DEV void load(const u8* p, int half, int lane, int g) { k.load(p, half, lane, g); top = weight64(p + 1152 + lane * 8); }
    template <int B> DEV void block(Four& lo, Four& hi) const {
        u32 sc, z;
        k.scales<B>(sc, z);
        const u32 a = B < 2 ? k.q.x : k.q.z, b = B < 2 ? k.q.y : k.q.w;
        lo = four((B & 1 ? high_nibbles_u(a) : low_nibbles_u(a)) | ((top.x >> (4 * k.h + B)) & 0x01010101u) << 4, sc, z);
        hi = four((B & 1 ? high_nibbles_u(b) : low_nibbles_u(b)) | ((top.y >> (4 * k.h + B)) & 0x01010101u) << 4, sc, z);
    }
};
template <> struct Tile<Q6_K> {
    uint4 q; uint2 top, s; u32 d;
    DEV void load(const u8* p, int half, int lane, int g) {
        q = weight128(p + half * 512 + lane * 16); top = weight64(p + 1024 + lane * 16 + half * 8);
        s = weight64(p + 1536 + g * 16 + half * 8); d = weight16(p + 1664 + g * 2);
    }
    template <int B> DEV void block(Four& lo, Four& hi) const {     // bytes are 4 q
        const float f = from_half(d) * (WEIGHT_SCALE / 4.f);
        const u32 sw = B < 2 ? s.x : s.y;
        lo = four(Unit<Q6_K>::value<B>(B & 1 ? q.z : q.x, top.x) ^ 0x80808080u, 128.f, h2(f * Unit<Q6_K>::scale(sw, 2 * (B & 1))));
        hi = four(Unit<Q6_K>::value<B>(B & 1 ? q.w : q.y, top.y) ^ 0x80808080u, 128.f, h2(f * Unit<Q6_K>::scale(sw, 2 * (B & 1) + 1)));
    }
};
template <> struct Tile<Q2_K> {
    uint2 q, s; u32 d;
    DEV void load(const u8* p, int half, int lane, int g) {
        q = weight64(p + lane * 16 + half * 8); s = weight64(p + 512 + g * 16 + half * 8); d = weight32(p + 640 + g * 4);
    }
    template <int B> DEV void block(Four& lo, Four& hi) const {
        const u32 w = B < 2 ? s.x : s.y, sc = low_nibbles_u(w), m = high_nibbles_u(w);
        const float f = from_half(d) * WEIGHT_SCALE, z = -from_half(d >> 16) * WEIGHT_SCALE;
        const int at = 2 * (B & 1);
        lo = four(bit_pairs<B>(q.x), h2(f * byte_f(sc, at)), h2(z * byte_f(m, at)));
        hi = four(bit_pairs<B>(q.y), h2(f * byte_f(sc, at + 1)), h2(z * byte_f(m, at + 1)));
    }
};
template <> struct Tile<Q3_K> {
    uint2 q, top; u32 s0, s1, s2, d; int h;
    DEV void load(const u8* p, int half, int lane, int g) {
        q = weight64(p + lane * 16 + half * 8); top = weight64(p + 512 + lane * 8);
        s0 = weight32(p + 768 + g * 12), s1 = weight32(p + 772 + g * 12), s2 = weight32(p + 776 + g * 12);
        d = weight16(p + 864 + g * 2), h = half;
    }
    template <int B> DEV void block(Four& lo, Four& hi) const {
        const u32 sc = Unit<Q3_K>::scales(s0, s1, s2, 2 * h + (B >> 1));
        const float f = from_half(d) * WEIGHT_SCALE;
        const u32 t = top.x >> (4 * h + B), u = top.y >> (4 * h + B);
        lo = four(bit_pairs<B>(q.x) | (~t & 0x01010101u) << 2, 4.f, h2(f * Unit<Q3_K>::scale(sc, 2 * (B & 1))));
        hi = four(bit_pairs<B>(q.y) | (~u & 0x01010101u) << 2, 4.f, h2(f * Unit<Q3_K>::scale(sc, 2 * (B & 1) + 1)));
    }
};
template <> struct Tile<IQ4_NL> {
    uint4 q; uint2 d;
    DEV void load(const u8* p, int, int lane, int g) { q = weight128(p + lane * 16); d = weight64(p + 512 + g * 8); }
    template <int B> DEV void block(Four& lo, Four& hi) const {
        const u32 w = B == 0 ? q.x : B == 1 ? q.y : B == 2 ? q.z : q.w;
        const u32 s = h2(from_half((B < 2 ? d.x : d.y) >> (16 * (B & 1))) * WEIGHT_SCALE);
        lo = four(iq4(w) ^ 0x80808080u, 128.f, s), hi = four(iq4(w >> 16) ^ 0x80808080u, 128.f, s);
    }
};
template <> struct Tile<IQ4_XS> {
    uint4 q; uint2 s; int h;
    DEV void load(const u8* p, int half, int lane, int g) { q = weight128(p + half * 512 + lane * 16); s = weight64(p + 1024 + g * 8); h = half; }
    template <int B> DEV void block(Four& lo, Four& hi) const {
        const u32 w = B == 0 ? q.x : B == 1 ? q.y : B == 2 ? q.z : q.w;
        const u32 f = h2(from_half(s.x) * Unit<IQ4_XS>::scale(s, 4 * h + B) * WEIGHT_SCALE);
        lo = four(iq4(w) ^ 0x80808080u, 128.f, f), hi = four(iq4(w >> 16) ^ 0x80808080u, 128.f, f);
    }
};
// Half-precision rows as they are in the file; `left` weights of the row from this lane's first on.
template <int TYPE> struct HalfTile {
    uint2 v[8];
    DEV void load_row(const u8* p, int left) {
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = i * 16 < left ? weight64(p + i * 32) : make_uint2(0, 0);
    }
    DEV Four get(uint2 w) const {
        if (TYPE == BF16)
            return {to_half2(from_bf16(w.x & 0xffff) * WEIGHT_SCALE, from_bf16(w.y & 0xffff) * WEIGHT_SCALE),
                    to_half2(from_bf16(w.x >> 16) * WEIGHT_SCALE, from_bf16(w.y >> 16) * WEIGHT_SCALE)};
        const u32 s = h2(WEIGHT_SCALE);
        return {mul2(__byte_perm(w.x, w.y, 0x5410), s), mul2(__byte_perm(w.x, w.y, 0x7632), s)};
    }
    template <int B> DEV void block(Four& lo, Four& hi) const { lo = get(v[2 * B]), hi = get(v[2 * B + 1]); }
};
template <> struct Tile<F16> : HalfTile<F16> {};
template <> struct Tile<BF16> : HalfTile<BF16> {};

DEV void mma16(float (&c)[4], Four row, Four row8, uint2 b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(row.a), "r"(row8.a), "r"(row.b), "r"(row8.b), "r"(b.x), "r"(b.y));
}
DEV void copy16(void* shared, const void* global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"((u32)__cvta_generic_to_shared(shared)), "l"(global) : "memory");
}
DEV void copies_done(int pending) {
    if (pending) asm volatile("cp.async.wait_group 1;" ::: "memory");
    else asm volatile("cp.async.wait_group 0;" ::: "memory");
}

struct GemmArgs {               // mirrored by prefill.py
    const u8* base;
    const u8* base2;            // the up matrix where gate and up are multiplied together, else 0
    const u16* x;               // (n, pitch) activations
    const float* x_scale;       // (n,) what to multiply results by
    const float* bias;          // by output row; of experts, `bias_stride` apart
    const float* residual;      // (n, ldo)
    float* out;                 // (n, ldo), from column row0 on
    const int* counts;          // experts: tokens of each, then their offsets
    const int* list;            // experts: pairs in expert order
    u64 expert_bytes, expert_bytes2;
    int n, k, pitch, rows, octets, ldo, row0, act;
    int n_ff, bias_stride, per_token, gathers;  // per_token: experts a token; gathers: x has a row a token, not a pair
};

// What is left to do for rows g of octets o[0] and o[1] and N tokens: scale, bias, activation, residual, and out.
// c[j][e] and c[j][2 + e] are the two rows' sums for token 8 j + 2 t + e, which goes to out's row to[token], if that is any.
template <int N>
DEV void finish(const GemmArgs& A, int expert, const int* o, int g, int t, const int* to, const float* scales, const float (&c)[N / 8][4]) {
    const float* bias = A.bias ? A.bias + (u64)expert * A.bias_stride : 0;
    auto each = [&](auto write) {
#pragma unroll
        for (int j = 0; j < N / 8; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const int token = j * 8 + 2 * t + e, row = to[token];
                const float s = scales[token];
                if (row >= 0) write((u64)row * A.ldo + A.row0, c[j][e] * s, c[j][2 + e] * s);
            }
    };
    const int r0 = o[0] * 8 + g, r1 = o[1] * 8 + g;
    if (A.base2) {
        if (r0 >= A.n_ff) return;
        const float b0 = bias ? bias[r0] : 0.f, b1 = bias ? bias[A.n_ff + r0] : 0.f;
        if (A.act == SWIGLU) each([&](u64 at, float a, float b) { A.out[at + r0] = swiglu(a + b0, b + b1); });
        else each([&](u64 at, float a, float b) { A.out[at + r0] = swiglu_oai(a + b0, b + b1); });
        return;
    }
    const bool has0 = r0 < A.rows, has1 = r1 < A.rows;
    const float b0 = bias && has0 ? bias[A.row0 + r0] : 0.f, b1 = bias && has1 ? bias[A.row0 + r1] : 0.f;
    if (A.act == GELU)
        each([&](u64 at, float a, float b) {
            if (has0) A.out[at + r0] = gelu(a + b0);
            if (has1) A.out[at + r1] = gelu(b + b1);
        });
    else if (A.residual)
        each([&](u64 at, float a, float b) {
            if (has0) A.out[at + r0] = a + b0 + A.residual[at + r0];
            if (has1) A.out[at + r1] = b + b1 + A.residual[at + r1];
        });
    else
        each([&](u64 at, float a, float b) {
            if (has0) A.out[at + r0] = a + b0;
            if (has1) A.out[at + r1] = b + b1;
        });
}

#define GEMM_TOKENS 64          // of a block
#define GEMM_THREADS 128

// A block: 128 rows (64 of gate and 64 of up, if paired) by 64 tokens; a warp: two m16 tiles by 64 tokens.
template <int TYPE>
DEV void gemm(const GemmArgs& A) {
    __shared__ __align__(16) u16 tiles[2][GEMM_TOKENS * X_PITCH];
    __shared__ int index[GEMM_TOKENS], out_row[GEMM_TOKENS];
    __shared__ float scales[GEMM_TOKENS];
    const int lane = threadIdx.x & 31, w = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const bool paired = A.base2 != 0;
    const int expert = blockIdx.z, n = A.counts ? A.counts[expert] : A.n, first = blockIdx.y * GEMM_TOKENS;
    if (first >= n) return;
    const int offset = A.counts ? A.counts[gridDim.z + expert] : 0;
    for (int i = threadIdx.x; i < GEMM_TOKENS; i += GEMM_THREADS) {
        int j = min(first + i, n - 1), pair = A.counts ? A.list[offset + j] : j;
        index[i] = A.gathers ? pair / A.per_token : pair;
        scales[i] = A.x_scale[index[i]] * (1.f / WEIGHT_SCALE);
        out_row[i] = first + i < n ? pair : -1;
    }
    __syncthreads();
    const u64 octet = octet_bytes(TYPE, A.k);
    const int chunks = (A.k + 127) / 128;
    // The four octets of this warp: rows g and g + 8 of its two m16 tiles.
    const u8* p[4];
    int o[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        o[i] = paired ? blockIdx.x * 8 + w * 2 + (i >> 1) : blockIdx.x * 16 + w * 4 + i;
        const int at = min(o[i], (paired ? A.n_ff / 8 : A.octets) - 1);
        const u8* base = paired && (i & 1) ? A.base2 + expert * A.expert_bytes2 : A.base + expert * A.expert_bytes;
        if (TYPE == F16 || TYPE == BF16) p[i] = base + ((u64)min(at * 8 + g, A.rows - 1) * A.k + 4 * t) * 2;
        else p[i] = base + at * octet;
    }
    auto fetch = [&](int chunk, int stage) {
        for (int i = threadIdx.x; i < GEMM_TOKENS * 16; i += GEMM_THREADS) {
            int token = i >> 4, part = i & 15;
            copy16(&tiles[stage][token * X_PITCH + part * 8], A.x + (u64)index[token] * A.pitch + chunk * 128 + part * 8);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    auto load = [&](Tile<TYPE> (&tile)[4], int chunk) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if constexpr (TYPE == F16 || TYPE == BF16) tile[i].load_row(p[i] + chunk * 256, A.k - chunk * 128 - 4 * t);
            else if constexpr (Unit<TYPE>::K == 256) tile[i].load(p[i] + (chunk >> 1) * unit_bytes(TYPE), chunk & 1, lane, g);
            else tile[i].load(p[i] + chunk * unit_bytes(TYPE), 0, lane, g);
        }
    };
    float acc[2][8][4];
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) acc[i][j][0] = acc[i][j][1] = acc[i][j][2] = acc[i][j][3] = 0.f;
    Tile<TYPE> tile[4], next[4];
    fetch(0, 0);
    load(tile, 0);
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; ++chunk) {
        const bool more = chunk + 1 < chunks;
        if (more) fetch(chunk + 1, (chunk + 1) & 1), load(next, chunk + 1);
        copies_done(more);
        __syncthreads();
        const u16* x = tiles[chunk & 1] + g * X_PITCH + 4 * t;
        auto multiply = [&](auto block) {
            constexpr int B = decltype(block)::value;
            Four lo[4], hi[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) tile[i].template block<B>(lo[i], hi[i]);
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                const uint2 b0 = *(const uint2*)(x + j * 8 * X_PITCH + B * 32), b1 = *(const uint2*)(x + j * 8 * X_PITCH + B * 32 + 16);
                mma16(acc[0][j], lo[0], lo[1], b0);
                mma16(acc[1][j], lo[2], lo[3], b0);
                mma16(acc[0][j], hi[0], hi[1], b1);
                mma16(acc[1][j], hi[2], hi[3], b1);
            }
        };
        struct B0 { enum { value = 0 }; }; struct B1 { enum { value = 1 }; }; struct B2 { enum { value = 2 }; }; struct B3 { enum { value = 3 }; };
        multiply(B0()); multiply(B1()); multiply(B2()); multiply(B3());
        if (more)
#pragma unroll
            for (int i = 0; i < 4; ++i) tile[i] = next[i];
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) finish<GEMM_TOKENS>(A, expert, o + 2 * i, g, t, out_row, scales, acc[i]);
}
