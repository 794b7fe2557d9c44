// Quantized weights as the tensor cores want them, and their exact product with one activation vector.
//
// Eight rows (an octet) are cut along k into units of 128 or 256 weights a row. A unit holds the file's own bits in an
// order in which each lane of a warp reads its share with loads of 4 to 16 bytes; units of an octet, and octets, follow
// each other without gaps, so that a range of octets is one stream of bytes.
//
// One m16n8k32 integer product multiplies eight rows by two 32-blocks at once: A's rows 0-7 hold block b, rows 8-15 block
// b' of the same rows; B's columns 0-3 hold the four base-256 digits (planes) of the activations of b, columns 4-7 those
// of b'. Activations are fixed point with 30 bits below their largest magnitude, weights are their integers: the dot
// product of a block is exact, and only scales and sums of blocks round, in float32.
//
// Lane l = 4 g + t: g is the row, t picks k = 4t..4t+3 and 16+4t..16+4t+3 of a block, h = t / 2 the block it scales.
#pragma once

#define MAGIC 0x4B400000        // float bits of 1.5 * 2^23: integer sums on top of it are floats without conversion
#define MAGIC_F 12582912.0f
#define BLOCK_WORDS 34          // a block's planes in shared memory: 32 words, padded against bank conflicts

struct Lane { int g, t, h; };

struct Sum {                    // one lane's share of one row
    float lo, hi, min;          // two neighbouring planes, and what minima subtract
    DEV void clear() { lo = hi = min = 0.f; }
    DEV void add(int h, const int (&c)[4], float scale) {
        lo = fmaf(__int_as_float(h ? c[2] : c[0]) - MAGIC_F, scale, lo);
        hi = fmaf(__int_as_float(h ? c[3] : c[1]) - MAGIC_F, scale, hi);
    }
    // The row's sum over the four lanes of its group.
    DEV float total(int t, float factor) const {
        float v = fmaf(hi, 256.f, lo) * ((t & 1) ? 65536.f * factor : factor) - min;
        v += __shfl_xor_sync(FULL, v, 1);
        return v + __shfl_xor_sync(FULL, v, 2);
    }
};

DEV void product_s(int (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, uint2 b) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b.x), "r"(b.y), "r"(MAGIC));
}
DEV void product_u(int (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, uint2 b) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b.x), "r"(b.y), "r"(MAGIC));
}
// More of the same sums: |weight| * 128 * 32 * products must stay below 2^22.
DEV void product_more_s(int (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, uint2 b) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b.x), "r"(b.y));
}
DEV void product_16(int (&c)[4], u32 a0, u32 a1, u32 b) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3]) : "r"(a0), "r"(a1), "r"(b), "r"(MAGIC));
}

// The planes of block `b` (columns 0-3) or of the block `distance` later (columns 4-7), as this lane's B fragment.
DEV uint2 planes(const u32* x, int b) { return *(const uint2*)(x + b * BLOCK_WORDS); }
DEV int plane_offset(int lane, int distance) {
    int g = lane >> 2, t = lane & 3;
    return t * 8 + (g & 3) * 2 + (g >> 2) * distance * BLOCK_WORDS;
}

// 16 (q - 8) for the four low or high nibbles of a word.
DEV u32 low_nibbles_s(u32 w) { return ((w << 4) & 0xf0f0f0f0u) ^ 0x80808080u; }
DEV u32 high_nibbles_s(u32 w) { return (w & 0xf0f0f0f0u) ^ 0x80808080u; }
DEV u32 low_nibbles_u(u32 w) { return w & 0x0f0f0f0fu; }
DEV u32 high_nibbles_u(u32 w) { return (w >> 4) & 0x0f0f0f0fu; }
// 2^23 plus byte i of a word.
DEV float biased(u32 w, int i) { return __uint_as_float(__byte_perm(w, 0x4b000000u, 0x7440 + i)); }
DEV float byte_f(u32 w, int i) { return biased(w, i) - 8388608.f; }

DEV u32 permute(u32 a, u32 b, u32 selector) {
    u32 r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
    return r;
}
// Values of E2M1, doubled: 0 1 2 3 4 6 8 12 and their negatives, four at a time from 16 bits of nibbles.
DEV u32 e2m1(u32 nibbles) {
    u32 index = nibbles & 0x7777u;
    u32 positive = __byte_perm(0x03020100u, 0x0c080604u, index);
    u32 negative = __byte_perm(0xfdfeff00u, 0xf4f8fafcu, index);
    return __byte_perm(positive, negative, 0x3210u | ((nibbles >> 1) & 0x4444u));
}
// Twice that, in fewer instructions: 0 2 4 6 8 12 16 24 and their negatives, four at a time from the low 16 bits of nibbles.
// The nibble is the selector: of bytes below 128, one with the sign bit selects 0. So one table gives the positive values'
// halves, one the negative values' (modulo 128), each where the other gives 0.
DEV u32 e2m1_twice(u32 nibbles) {
    return (permute(0x03020100u, 0x0c080604u, nibbles) | permute(0x7d7e7f00u, 0x74787a7cu, nibbles ^ 0x88888888u)) << 1;
}
// 2^(e - 128): MXFP4's shared exponent with the table of doubled values; 0 instead of the two smallest.
DEV float from_e8m0_half_fast(u32 e) { return __uint_as_float(max(e, 1u) * 0x00800000u - 0x00800000u); }

// IQ4's values, four at a time from the low 16 bits of nibbles.
DEV u32 iq4(u32 nibbles) {
    const u32 index = nibbles & 0x7777u;
    const u32 negative = __byte_perm(0xbfad9881u, 0xf6eaddcfu, index);      // -127 -104 -83 -65, -49 -35 -22 -10
    const u32 positive = __byte_perm(0x26190d01u, 0x71594535u, index);      // 1 13 25 38, 53 69 89 113
    return __byte_perm(negative, positive, 0x3210u | ((nibbles >> 1) & 0x4444u));
}

// A lane's share of a unit that lies in shared memory.
DEV uint4 word128(const u8* p) { return *(const uint4*)p; }
DEV uint2 word64(const u8* p) { return *(const uint2*)p; }
DEV u32 word32(const u8* p) { return *(const u32*)p; }
DEV u32 word16(const u8* p) { return *(const u16*)p; }

template <int TYPE> struct Unit;

// Stored (types.cuh) says K, weights along k, BYTES, of eight rows, and DISTANCE, blocks between those of one product. xs:
// scale of the unit's activations, for K = 256 of the lane's half. factor: what integers are too large by, inverted.
template <> struct Unit<Q4_0> : Stored<Q4_0> {
    static DEV float factor() { return 1.f / 16.f; }
    uint4 q; u32 d;
    DEV void load(const u8* p, int lane, Lane l) { q = word128(p + lane * 16); d = word32(p + 512 + l.g * 8 + l.h * 4); }
    DEV void dot(Sum& sum, const u32* x, const float*, float xs, Lane l) const {
        int c[4];
        product_s(c, low_nibbles_s(q.x), low_nibbles_s(q.z), high_nibbles_s(q.x), high_nibbles_s(q.z), planes(x, 0));
        sum.add(l.h, c, from_half(d) * xs);
        product_s(c, low_nibbles_s(q.y), low_nibbles_s(q.w), high_nibbles_s(q.y), high_nibbles_s(q.w), planes(x, 1));
        sum.add(l.h, c, from_half(d >> 16) * xs);
    }
};

template <> struct Unit<MXFP4> : Stored<MXFP4> {
    static DEV float factor() { return 0.5f; }
    uint4 q; u32 e;             // low half of a word: weights 4t..4t+3, high half: 16+4t..16+4t+3
    DEV void load(const u8* p, int lane, Lane l) { q = word128(p + lane * 16); e = word16(p + 512 + l.g * 4 + l.h * 2); }
    DEV void dot(Sum& sum, const u32* x, const float*, float xs, Lane l) const {
        int c[4];
        product_s(c, e2m1_twice(q.x), e2m1_twice(q.z), e2m1_twice(q.x >> 16), e2m1_twice(q.z >> 16), planes(x, 0));
        sum.add(l.h, c, from_e8m0_half_fast(e & 0xff) * xs);
        product_s(c, e2m1_twice(q.y), e2m1_twice(q.w), e2m1_twice(q.y >> 16), e2m1_twice(q.w >> 16), planes(x, 1));
        sum.add(l.h, c, from_e8m0_half_fast(e >> 8) * xs);
    }
};

template <> struct Unit<Q4_1> : Stored<Q4_1> {
    static DEV float factor() { return 1.f; }
    uint4 q; uint2 dm;          // d and m of two blocks
    DEV void load(const u8* p, int lane, Lane l) { q = word128(p + lane * 16); dm = word64(p + 512 + l.g * 16 + l.h * 8); }
    DEV void dot(Sum& sum, const u32* x, const float* xsum, float xs, Lane l) const {
        int c[4];
        product_u(c, low_nibbles_u(q.x), low_nibbles_u(q.z), high_nibbles_u(q.x), high_nibbles_u(q.z), planes(x, 0));
        sum.add(l.h, c, from_half(dm.x) * xs);
        product_u(c, low_nibbles_u(q.y), low_nibbles_u(q.w), high_nibbles_u(q.y), high_nibbles_u(q.w), planes(x, 1));
        sum.add(l.h, c, from_half(dm.y) * xs);
        int odd = l.t & 1;
        sum.min = fmaf(-from_half((odd ? dm.y : dm.x) >> 16), xsum[2 * l.h + odd], sum.min);
    }
};

template <> struct Unit<Q5_0> : Stored<Q5_0> {
    static DEV float factor() { return 1.f / 8.f; }
    uint4 q; u32 top, d;        // top: the inverted fifth bits, fragment f of byte i at bit 8 i + f
    DEV void load(const u8* p, int lane, Lane l) {
        q = word128(p + lane * 16); top = word32(p + 512 + lane * 4); d = word32(p + 640 + l.g * 8 + l.h * 4);
    }
    template <int F> DEV u32 low(u32 w) const { return ((w << 3) & 0x78787878u) | ((top << (7 - F)) & 0x80808080u); }
    template <int F> DEV u32 high(u32 w) const { return ((w >> 1) & 0x78787878u) | ((top << (7 - F)) & 0x80808080u); }
    DEV void dot(Sum& sum, const u32* x, const float*, float xs, Lane l) const {
        int c[4];
        product_s(c, low<0>(q.x), low<4>(q.z), high<1>(q.x), high<5>(q.z), planes(x, 0));
        sum.add(l.h, c, from_half(d) * xs);
        product_s(c, low<2>(q.y), low<6>(q.w), high<3>(q.y), high<7>(q.w), planes(x, 1));
        sum.add(l.h, c, from_half(d >> 16) * xs);
    }
};

template <> struct Unit<Q5_1> : Stored<Q5_1> {
    static DEV float factor() { return 1.f; }
    uint4 q; u32 top; uint2 dm; // top: the fifth bits, as in Q5_0 but not inverted
    DEV void load(const u8* p, int lane, Lane l) {
        q = word128(p + lane * 16); top = word32(p + 512 + lane * 4); dm = word64(p + 640 + l.g * 16 + l.h * 8);
    }
    template <int F> DEV u32 bits() const { return F < 4 ? (top << (4 - F)) & 0x10101010u : (top >> (F - 4)) & 0x10101010u; }
    DEV void dot(Sum& sum, const u32* x, const float* xsum, float xs, Lane l) const {
        int c[4];
        product_u(c, low_nibbles_u(q.x) | bits<0>(), low_nibbles_u(q.z) | bits<4>(),
                  high_nibbles_u(q.x) | bits<1>(), high_nibbles_u(q.z) | bits<5>(), planes(x, 0));
        sum.add(l.h, c, from_half(dm.x) * xs);
        product_u(c, low_nibbles_u(q.y) | bits<2>(), low_nibbles_u(q.w) | bits<6>(),
                  high_nibbles_u(q.y) | bits<3>(), high_nibbles_u(q.w) | bits<7>(), planes(x, 1));
        sum.add(l.h, c, from_half(dm.y) * xs);
        int odd = l.t & 1;
        sum.min = fmaf(-from_half((odd ? dm.y : dm.x) >> 16), xsum[2 * l.h + odd], sum.min);
    }
};

template <> struct Unit<Q8_0> : Stored<Q8_0> {
    static DEV float factor() { return 1.f; }
    uint4 q0, q1; u32 d;        // q0: blocks 0 and 1, q1: blocks 2 and 3
    DEV void load(const u8* p, int lane, Lane l) {
        q0 = word128(p + lane * 16); q1 = word128(p + 512 + lane * 16); d = word32(p + 1024 + l.g * 8 + l.h * 4);
    }
    DEV void dot(Sum& sum, const u32* x, const float*, float xs, Lane l) const {
        int c[4];
        product_s(c, q0.x, q1.x, q0.y, q1.y, planes(x, 0));
        sum.add(l.h, c, from_half(d) * xs);
        product_s(c, q0.z, q1.z, q0.w, q1.w, planes(x, 1));
        sum.add(l.h, c, from_half(d >> 16) * xs);
    }
};

// The 6-bit scales or minima of four blocks, as bytes: blocks 0-3 for h = 0, 4-7 for h = 1.
DEV u32 six_bits(u32 low, u32 high, u32 h) { return h ? (high & 0x0f0f0f0fu) | ((low >> 2) & 0x30303030u) : low & 0x3f3f3f3fu; }

// s: d and dmin, then the 12 bytes of scales and minima, as in the file.
DEV void k_minima(Sum& sum, uint4 s, const float* xsum, Lane l) {
    u32 m = six_bits(s.z, s.w >> 4, l.h);
    int first = (l.t & 1) * 2;
    m >>= 8 * first;
    const float* xs = xsum + 4 * l.h + first;
    sum.min = fmaf(from_half(s.x >> 16), fmaf(byte_f(m, 0), xs[0], byte_f(m, 1) * xs[1]), sum.min);
}

template <> struct Unit<Q4_K> : Stored<Q4_K> {
    static DEV float factor() { return 1.f; }
    uint4 q0, q1, s;            // q0: 64-weight chunks 0 and 1 (two words each), q1: chunks 2 and 3
    DEV void load(const u8* p, int lane, Lane l) {
        q0 = word128(p + lane * 16); q1 = word128(p + 512 + lane * 16); s = word128(p + 1024 + l.g * 16);
    }
    DEV void dot(Sum& sum, const u32* x, const float* xsum, float xs, Lane l) const {
        const float d = from_half(s.x) * xs, nd = -8388608.f * d;
        u32 sc = six_bits(s.y, s.w, l.h);
        int c[4];
        product_u(c, low_nibbles_u(q0.x), low_nibbles_u(q1.x), low_nibbles_u(q0.y), low_nibbles_u(q1.y), planes(x, 0));
        sum.add(l.h, c, fmaf(biased(sc, 0), d, nd));
        product_u(c, high_nibbles_u(q0.x), high_nibbles_u(q1.x), high_nibbles_u(q0.y), high_nibbles_u(q1.y), planes(x, 1));
        sum.add(l.h, c, fmaf(biased(sc, 1), d, nd));
        product_u(c, low_nibbles_u(q0.z), low_nibbles_u(q1.z), low_nibbles_u(q0.w), low_nibbles_u(q1.w), planes(x, 2));
        sum.add(l.h, c, fmaf(biased(sc, 2), d, nd));
        product_u(c, high_nibbles_u(q0.z), high_nibbles_u(q1.z), high_nibbles_u(q0.w), high_nibbles_u(q1.w), planes(x, 3));
        sum.add(l.h, c, fmaf(biased(sc, 3), d, nd));
        k_minima(sum, s, xsum, l);
    }
};

template <> struct Unit<Q5_K> : Stored<Q5_K> {
    static DEV float factor() { return 1.f; }
    uint4 q0, q1, s; uint2 top; // top: bit b of each byte is the fifth bit of block b
    DEV void load(const u8* p, int lane, Lane l) {
        q0 = word128(p + lane * 16); q1 = word128(p + 512 + lane * 16);
        s = word128(p + 1024 + l.g * 16); top = word64(p + 1152 + lane * 8);
    }
    template <int B> static DEV u32 bit(u32 w) { return B < 4 ? (w << (4 - B)) & 0x10101010u : (w >> (B - 4)) & 0x10101010u; }
    DEV void dot(Sum& sum, const u32* x, const float* xsum, float xs, Lane l) const {
        const float d = from_half(s.x) * xs, nd = -8388608.f * d;
        u32 sc = six_bits(s.y, s.w, l.h);
        int c[4];
        product_u(c, low_nibbles_u(q0.x) | bit<0>(top.x), low_nibbles_u(q1.x) | bit<4>(top.x),
                  low_nibbles_u(q0.y) | bit<0>(top.y), low_nibbles_u(q1.y) | bit<4>(top.y), planes(x, 0));
        sum.add(l.h, c, fmaf(biased(sc, 0), d, nd));
        product_u(c, high_nibbles_u(q0.x) | bit<1>(top.x), high_nibbles_u(q1.x) | bit<5>(top.x),
                  high_nibbles_u(q0.y) | bit<1>(top.y), high_nibbles_u(q1.y) | bit<5>(top.y), planes(x, 1));
        sum.add(l.h, c, fmaf(biased(sc, 1), d, nd));
        product_u(c, low_nibbles_u(q0.z) | bit<2>(top.x), low_nibbles_u(q1.z) | bit<6>(top.x),
                  low_nibbles_u(q0.w) | bit<2>(top.y), low_nibbles_u(q1.w) | bit<6>(top.y), planes(x, 2));
        sum.add(l.h, c, fmaf(biased(sc, 2), d, nd));
        product_u(c, high_nibbles_u(q0.z) | bit<3>(top.x), high_nibbles_u(q1.z) | bit<7>(top.x),
                  high_nibbles_u(q0.w) | bit<3>(top.y), high_nibbles_u(q1.w) | bit<7>(top.y), planes(x, 3));
        sum.add(l.h, c, fmaf(biased(sc, 3), d, nd));
        k_minima(sum, s, xsum, l);
    }
};

template <> struct Unit<Q6_K> : Stored<Q6_K> {
    static DEV float factor() { return 1.f / 4.f; }
    // q: nibble words of the first and second 128 weights. top: two high bits, the upper inverted. s: 8 of 16 scales.
    uint4 q0, q1, top; uint2 s; u32 d;
    DEV void load(const u8* p, int lane, Lane l) {
        q0 = word128(p + lane * 16); q1 = word128(p + 512 + lane * 16); top = word128(p + 1024 + lane * 16);
        s = word64(p + 1536 + l.g * 16 + l.h * 8); d = word16(p + 1664 + l.g * 2);
    }
    // 4 (q - 32): J is the block among the four that share a byte of high bits.
    template <int J> static DEV u32 value(u32 w, u32 t) {
        u32 low = (J < 2 ? w << 2 : w >> 2) & 0x3c3c3c3cu;
        return low | ((t << (6 - 2 * J)) & 0xc0c0c0c0u);
    }
    static DEV float scale(u32 w, int i) { return biased(w ^ 0x80808080u, i) - 8388736.f; }
    template <int J> DEV void block(Sum& sum, const u32* x, Lane l, u32 first, u32 second, u32 first2, u32 second2, u32 sc, int i, float df) const {
        int c[4];
        uint2 b = planes(x, J);
        product_16(c, value<J>(first, top.x), value<J>(first2, top.z), b.x);
        sum.add(l.h, c, df * scale(sc, i));
        product_16(c, value<J>(second, top.y), value<J>(second2, top.w), b.y);
        sum.add(l.h, c, df * scale(sc, i + 1));
    }
    DEV void dot(Sum& sum, const u32* x, const float*, float xs, Lane l) const {
        const float df = from_half(d) * xs;
        block<0>(sum, x, l, q0.x, q0.y, q1.x, q1.y, s.x, 0, df);
        block<1>(sum, x, l, q0.z, q0.w, q1.z, q1.w, s.x, 2, df);
        block<2>(sum, x, l, q0.x, q0.y, q1.x, q1.y, s.y, 0, df);
        block<3>(sum, x, l, q0.z, q0.w, q1.z, q1.w, s.y, 2, df);
    }
};

// Two bits of block J of a half's weights, in its four bytes.
template <int J> DEV u32 bit_pairs(u32 w) { return (w >> (2 * J)) & 0x03030303u; }
// A byte of a word in all four.
DEV u32 repeated(u32 w, int i) { return __byte_perm(w, 0, 0x1111 * i); }

// Scales times weights are integers of seven bits, minima of four: both are multiplied as such, and d and dmin meet the
// sums of half a unit.
template <> struct Unit<Q2_K> : Stored<Q2_K> {
    static DEV float factor() { return 1.f; }
    uint4 q, s; u32 d;          // q: low and high k of the first 128 weights, then of the others. s: as in the file
    DEV void load(const u8* p, int lane, Lane l) {
        q = word128(p + lane * 16); s = word128(p + 512 + l.g * 16); d = word32(p + 640 + l.g * 4);
    }
    template <int J> DEV void block(int (&c)[4], int (&m)[4], uint2 x) const {
        const u32 first = J < 2 ? s.x : s.y, second = J < 2 ? s.z : s.w;
        const int at = 2 * (J & 1);
        const u32 low = first & 0x0f0f0f0fu, low2 = second & 0x0f0f0f0fu;
        product_more_s(c, bit_pairs<J>(q.x) * (low >> (8 * at) & 0xff), bit_pairs<J>(q.z) * (low2 >> (8 * at) & 0xff),
                       bit_pairs<J>(q.y) * (low >> (8 * at + 8) & 0xff), bit_pairs<J>(q.w) * (low2 >> (8 * at + 8) & 0xff), x);
        const u32 high = high_nibbles_u(first), high2 = high_nibbles_u(second);
        product_more_s(m, repeated(high, at), repeated(high2, at), repeated(high, at + 1), repeated(high2, at + 1), x);
    }
    DEV void dot(Sum& sum, const u32* x, const float*, float xs, Lane l) const {
        int c[4] = {MAGIC, MAGIC, MAGIC, MAGIC}, m[4] = {MAGIC, MAGIC, MAGIC, MAGIC};
        block<0>(c, m, planes(x, 0)), block<1>(c, m, planes(x, 1)), block<2>(c, m, planes(x, 2)), block<3>(c, m, planes(x, 3));
        sum.add(l.h, c, from_half(d) * xs);
        sum.add(l.h, m, -from_half(d >> 16) * xs);
    }
};

template <> struct Unit<Q3_K> : Stored<Q3_K> {
    static DEV float factor() { return 1.f / 32.f; }
    uint4 q; uint2 top; u32 s0, s1, s2, d;      // top: bit b of each byte is the third bit of block b, inverted. s: as in the file
    DEV void load(const u8* p, int lane, Lane l) {
        q = word128(p + lane * 16); top = word64(p + 512 + lane * 8);
        s0 = word32(p + 768 + l.g * 12); s1 = word32(p + 772 + l.g * 12); s2 = word32(p + 776 + l.g * 12);
        d = word16(p + 864 + l.g * 2);
    }
    // 32 (q - 4), from bit pairs and inverted third bits of block B.
    template <int B> static DEV u32 value(u32 w, u32 t) {
        const int up = 5 - 2 * (B & 3);
        return ((up < 0 ? w >> -up : w << up) & 0x60606060u) | ((t << (7 - B)) & 0x80808080u);
    }
    // Scales 4 i to 4 i + 3 of 16 weights each, plus 32.
    static DEV u32 scales(u32 s0, u32 s1, u32 s2, int i) {
        return ((i & 1 ? s1 : s0) >> (i & 2 ? 4 : 0) & 0x0f0f0f0fu) | (s2 >> (2 * i) & 0x03030303u) << 4;
    }
    static DEV float scale(u32 w, int i) { return biased(w, i) - 8388640.f; }
    template <int J> DEV void block(Sum& sum, const u32* x, Lane l, u32 sc, float df) const {
        int c[4];
        const uint2 b = planes(x, J);
        product_16(c, value<J>(q.x, top.x), value<J + 4>(q.z, top.x), b.x);
        sum.add(l.h, c, df * scale(sc, 2 * (J & 1)));
        product_16(c, value<J>(q.y, top.y), value<J + 4>(q.w, top.y), b.y);
        sum.add(l.h, c, df * scale(sc, 2 * (J & 1) + 1));
    }
    DEV void dot(Sum& sum, const u32* x, const float*, float xs, Lane l) const {
        const float df = from_half(d) * xs;
        const u32 first = scales(s0, s1, s2, 2 * l.h), second = scales(s0, s1, s2, 2 * l.h + 1);
        block<0>(sum, x, l, first, df), block<1>(sum, x, l, first, df), block<2>(sum, x, l, second, df), block<3>(sum, x, l, second, df);
    }
};

template <> struct Unit<IQ4_NL> : Stored<IQ4_NL> {
    static DEV float factor() { return 1.f; }
    uint4 q; u32 d;             // low half of a word: weights 4t..4t+3, high half: 16+4t..16+4t+3
    DEV void load(const u8* p, int lane, Lane l) { q = word128(p + lane * 16); d = word32(p + 512 + l.g * 8 + l.h * 4); }
    DEV void dot(Sum& sum, const u32* x, const float*, float xs, Lane l) const {
        int c[4];
        product_s(c, iq4(q.x), iq4(q.z), iq4(q.x >> 16), iq4(q.z >> 16), planes(x, 0));
        sum.add(l.h, c, from_half(d) * xs);
        product_s(c, iq4(q.y), iq4(q.w), iq4(q.y >> 16), iq4(q.w >> 16), planes(x, 1));
        sum.add(l.h, c, from_half(d >> 16) * xs);
    }
};

template <> struct Unit<IQ4_XS> : Stored<IQ4_XS> {
    static DEV float factor() { return 1.f; }
    uint4 q0, q1; uint2 s;      // q: blocks 0-3 and 4-7, words as in IQ4_NL. s: d and upper bits of scales, then their nibbles
    DEV void load(const u8* p, int lane, Lane l) {
        q0 = word128(p + lane * 16); q1 = word128(p + 512 + lane * 16); s = word64(p + 1024 + l.g * 8);
    }
    // The scale of block b less 32.
    static DEV float scale(uint2 s, int b) {
        return (float)((int)((s.y >> (4 * b) & 15) | (s.x >> (16 + 2 * b) & 3) << 4) - 32);
    }
    template <int J> DEV void block(Sum& sum, const u32* x, Lane l, u32 first, u32 second, float d) const {
        int c[4];
        product_s(c, iq4(first), iq4(second), iq4(first >> 16), iq4(second >> 16), planes(x, J));
        sum.add(l.h, c, d * scale(s, 4 * l.h + J));
    }
    DEV void dot(Sum& sum, const u32* x, const float*, float xs, Lane l) const {
        const float d = from_half(s.x) * xs;
        block<0>(sum, x, l, q0.x, q1.x, d), block<1>(sum, x, l, q0.y, q1.y, d), block<2>(sum, x, l, q0.z, q1.z, d), block<3>(sum, x, l, q0.w, q1.w, d);
    }
};

DEV bool is_float(int type) { return type == F32 || type == F16 || type == BF16; }

// Weights along k of a unit, and units of so many. Float rows stay rows: their units are 128 weights of one row.
DEV int unit_shift(int type) { return LONG_UNITS >> type & 1 ? 8 : 7; }
DEV int unit_of(int type) { return 1 << unit_shift(type); }
DEV int units_of(int type, int k) { return (k + unit_of(type) - 1) >> unit_shift(type); }
DEV int unit_bytes(int type) {
    switch (type) {
        case F32: return 512;
        case F16: case BF16: return 256;
#define CASE(T) case T: return Unit<T>::BYTES;
        EACH_QUANTIZED(CASE)
#undef CASE
    }
    return 0;
}
DEV int octet_bytes(int type, int k) {
    if (type == F32) return k * 32;
    if (type == F16 || type == BF16) return k * 16;
    return units_of(type, k) * unit_bytes(type);
}

// Rows that lie together, and their bytes.
DEV int group_rows(int type) { return is_float(type) ? 1 : 8; }
DEV int group_bytes(int type, int k) { return is_float(type) ? octet_bytes(type, k) / 8 : octet_bytes(type, k); }
