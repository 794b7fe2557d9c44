// What products need of their input vector: its norm, and its values as fixed point digits.
#pragma once

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

// What all warps have put into a slot.
DEV float all_sums(int slot) {
    const float4* p = (const float4*)block().sums[slot];
    return total4(plus(plus(p[0], p[1]), plus(p[2], p[3])));
}

// Over the block; every thread gets the result. Each slot is used once an instruction.
DEV float block_sum(float sum, int slot) {
    sum = warp_sum(sum);
    if ((threadIdx.x & 31) == 0) block().sums[slot][threadIdx.x >> 5] = sum;
    block_sync();
    return all_sums(slot);
}

// What products need of one vector or several: planes, a scale for each 128 of its values, sums of its 32-blocks, and
// the values themselves.
struct Vectors {
    int blocks;                 // of a vector
    int xsum_at, xscale_at, planes_at, floats_at;       // bytes of shared memory

    DEV Vectors(const Instruction& I, int inputs) {
        blocks = blocks_of(I.k);
        xsum_at = PART_AT + PART_FLOATS * 4;
        xscale_at = xsum_at + blocks * inputs * 4;
        planes_at = xscale_at + (blocks / 4 * inputs + 3) / 4 * 16;
        floats_at = planes_at + (I.flags & PLANES_OF_X ? blocks * BLOCK_WORDS * inputs * 4 : 0);
    }
    DEV float* xsum() const { return (float*)(smem + xsum_at); }
    DEV float* xscale() const { return (float*)(smem + xscale_at); }
    DEV u32* planes() const { return (u32*)(smem + planes_at); }
    DEV float* floats() const { return (float*)(smem + floats_at); }
};
DEV float* sums_at() { return (float*)(smem + PART_AT); }

// Mean and inverse deviation of a vector: every thread writes the same.
CALL void layer_norm(int at) {
    Shared& s = block();
    const Instruction& I = record_at(at).instruction;
    const float* x = I.x + s.sets.here;
    float sum = 0.f;
#pragma unroll 1
    for (int j = threadIdx.x; j < I.k >> 2; j += THREADS) sum += total4(await4(x + 4 * j));
    const float mean = __fdividef(block_sum(sum, 1), (float)I.k);
    sum = 0.f;
#pragma unroll 1
    for (int j = threadIdx.x; j < I.k >> 2; j += THREADS) sum += squares(minus(await4(x + 4 * j), mean));
    s.deviation = rsqrtf(__fdividef(block_sum(sum, 2), (float)I.k) + I.eps), s.mean = mean;
}

#define HELD 2                  // pieces of x that a lane has asked for at once
#define ABREAST 3               // pieces of a warp that are prepared side by side

// Where a lane finds its four values of a piece, piece after piece of its warp.
struct Piece {
    int base, j;                // floats from x to the vector; the lane's first value in it, maybe beyond its end

    DEV Piece(int w, int lane) : base(0), j(w * 128 + lane * 4) {}
    DEV void next(int k, int width) {
        j += WARPS * 128;
        while (j >= width) j -= width, base += k;
    }
    // Beyond the vector's end, its last four: they are asked for, but not used.
    DEV const float* in(const float* x, int k) const { return x + base + min(j, k - 4); }
};

// Digits and scale of piece p; bits: of its largest magnitude.
DEV void store_digits(const Vectors& to, int p, int lane, float4 a, u32 bits) {
    // A power of two that brings the largest value to 29 bits and a little; what is not finite stays so.
    const u32 e = max(bits & 0x7f800000u, 40u << 23);
    const bool finite = bits < 0x7f000000u;
    if (lane == 0) to.xscale()[p] = finite ? __uint_as_float(e - (28u << 23)) : __uint_as_float(0x7fc00000u);
    store_planes(to.planes(), p * 32 + lane, a, finite ? __uint_as_float((282u << 23) - e) : 0.f);     // 2^(28 - (e - 127))
}

// Piece p as products need it: four neighbours a lane.
DEV void store_piece(int flags, const Vectors& to, int p, int lane, float4 a) {
    if (flags & FLOATS_OF_X) ((float4*)to.floats())[p * 32 + lane] = a;
    if (flags & PLANES_OF_X) store_digits(to, p, lane, a, __reduce_max_sync(FULL, magnitude(a)));
    if (flags & SUMS_OF_X) {
        float t = total4(a);
        t += __shfl_xor_sync(FULL, t, 1);
        t += __shfl_xor_sync(FULL, t, 2);
        t += __shfl_xor_sync(FULL, t, 4);
        if ((lane & 7) == 0) to.xsum()[p * 4 + (lane >> 3)] = t;
    }
}

// Two or three pieces of a warp side by side: each by itself would wait for its own steps.
DEV void prepare_abreast(const float* x, int k, int pieces, int flags, const Vectors& to) {
    const int lane = thread() & 31, w = thread() >> 5;
    const float* from[ABREAST];
    float4 v[ABREAST];
#pragma unroll
    for (int h = 0; h < ABREAST; ++h) {
        from[h] = x + min((h * WARPS + w) * 128 + lane * 4, k - 4);
        v[h] = glance4(from[h]);
    }
    for (u32 n = 0; armed(v[0]) || armed(v[1]) || armed(v[2]); spun(n))
#pragma unroll
        for (int h = 0; h < ABREAST; ++h) v[h] = glance4(from[h]);
    __syncwarp();
    STAMP(1);
    u32 bits[ABREAST];
    float sums[ABREAST];
#pragma unroll
    for (int h = 0; h < ABREAST; ++h) {
        if ((h * WARPS + w) * 128 + lane * 4 >= k) v[h] = make_float4(0.f, 0.f, 0.f, 0.f);
        bits[h] = __reduce_max_sync(FULL, magnitude(v[h]));
        sums[h] = total4(v[h]);
    }
#pragma unroll
    for (int h = 0; h < ABREAST; ++h)
        if (h * WARPS + w < pieces) {
            const int p = h * WARPS + w;
            if (flags & FLOATS_OF_X) ((float4*)to.floats())[p * 32 + lane] = v[h];
            if (flags & PLANES_OF_X) store_digits(to, p, lane, v[h], bits[h]);
        }
    if (!(flags & SUMS_OF_X)) return;
#pragma unroll
    for (int d = 1; d < 8; d *= 2)
#pragma unroll
        for (int h = 0; h < ABREAST; ++h) sums[h] += __shfl_xor_sync(FULL, sums[h], d);
#pragma unroll
    for (int h = 0; h < ABREAST; ++h)
        if (h * WARPS + w < pieces && (lane & 7) == 0) to.xsum()[(h * WARPS + w) * 4 + (lane >> 3)] = sums[h];
}

// x is one vector of k floats, or several without a norm, one after the other; each starts at a multiple of 256 in what
// is made of it. A warp takes every WARPS-th piece of 128 floats, and no warp waits for another: the factor of an RMS norm
// is left to the end of the product (rms_factor). The caller's next barrier makes all visible.
DEV void prepare(const Instruction& I, int inputs, const Vectors& to) {
    Shared& s = block();
    const int lane = thread() & 31, w = thread() >> 5, norm = I.norm, flags = I.flags, k = I.k, width = to.blocks * 32;
    const int pieces = (to.blocks >> 2) * inputs;
    const float* x = I.x + s.sets.here;         // of a layer norm, mean and deviation are known
    if (w >= pieces) {
        s.squares[w * 32 + lane] = 0.f;
        return;
    }
    if (norm == NO_NORM && inputs == 1 && pieces > WARPS && pieces <= ABREAST * WARPS) {
        prepare_abreast(x, k, pieces, flags, to);
        return;
    }
    Piece piece(w, lane), ahead = piece;
    float4 v[HELD], weights = make_float4(1.f, 1.f, 1.f, 1.f);
    while (piece.j >= width) piece.j -= width, piece.base += k;     // more warps than pieces of a vector
    ahead = piece;
    if (norm != NO_NORM) weights = constant4((const float4*)piece.in(I.norm_w, k));
    // The first piece is awaited, two if there are more; then the others are asked for at once.
    v[0] = glance4(ahead.in(x, k));
    if (WARPS + w < pieces) {
        ahead.next(k, width);
        v[1] = glance4(ahead.in(x, k));
        for (u32 n = 0; armed(v[0]) || armed(v[1]); spun(n)) v[0] = glance4(piece.in(x, k)), v[1] = glance4(ahead.in(x, k));
#pragma unroll
        for (int h = 2; h < HELD; ++h)
            if (h * WARPS + w < pieces) {
                ahead.next(k, width);
                v[h] = glance4(ahead.in(x, k));
            }
    } else
        for (u32 n = 0; armed(v[0]); spun(n)) v[0] = glance4(piece.in(x, k));
    __syncwarp();
    STAMP(1);
    float sum = 0.f;
#pragma unroll 1
    for (int p = w; ; ) {
        float4 a = v[0];
        if (p >= 2 * WARPS) {
            for (u32 n = 0; armed(a); spun(n)) a = glance4(piece.in(x, k));
            __syncwarp();
        }
        const bool inside = piece.j < k;
        if (norm == RMS) {
            if (inside) sum += squares(a);
            a = times(a, weights);
        } else if (DOES(LAYER_NORM) && norm == LAYER)
            a = plus(times(times(minus(a, s.mean), s.deviation), weights), constant4((const float4*)piece.in(I.norm_b, k)));
        if (!inside) a = make_float4(0.f, 0.f, 0.f, 0.f);
        store_piece(flags, to, p, lane, a);
        p += WARPS;
        if (p >= pieces) break;
        piece.next(k, width);
        if (norm != NO_NORM) weights = constant4((const float4*)piece.in(I.norm_w, k));
#pragma unroll
        for (int h = 0; h + 1 < HELD; ++h) v[h] = v[h + 1];
        if (p + (HELD - 1) * WARPS < pieces) {
            ahead.next(k, width);
            v[HELD - 1] = glance4(ahead.in(x, k));
        }
    }
    s.squares[w * 32 + lane] = sum;
}

// What a product of a prepared vector is still to be multiplied by; after the barrier, a whole warp.
DEV float rms_factor(const Instruction& I) {
    if (I.norm != RMS) return 1.f;
    const float4* p = (const float4*)block().squares + (thread() & 31);
    float4 v = plus(plus(p[0], p[32]), p[64]);
    if ((thread() & 31) < WARPS * 8 - 96) v = plus(v, p[96]);
    return rsqrtf(__fdividef(warp_sum(total4(v)), (float)I.k) + I.eps);
}
