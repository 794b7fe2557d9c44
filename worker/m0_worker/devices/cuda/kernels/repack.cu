// From rows of blocks as they lie in a file to octets of units (units.cuh), bit for bit, on the device. And back to
// single weights, for tests.
#include "common.cuh"
#include "units.cuh"
#include "element.cuh"

DEV u32 u32_at(const u8* p) { return p[0] | p[1] << 8 | p[2] << 16 | (u32)p[3] << 24; }
DEV u32 u16_at(const u8* p) { return p[0] | p[1] << 8; }
DEV void put16(u8* p, u32 v) { *(u16*)p = (u16)v; }
DEV void put32(u8* p, u32 v) { *(u32*)p = v; }

// Bits of a fifth-bit word for this lane: fragment f = 2 block + half at bit 8 e + f.
DEV u32 fifth_bits(u32 qh, int t, int b, u32 flip) {
    qh ^= flip;
    u32 out = 0;
    for (int high = 0; high < 2; ++high)
        for (int e = 0; e < 4; ++e) out |= (qh >> (16 * high + 4 * t + e) & 1) << (8 * e + 2 * b + high);
    return out;
}

// Four bytes of nibble pairs: their low nibbles in the low half, their high ones in the high half, as the tables want them.
DEV u32 indices(u32 w) {
    u32 out = 0;
    for (int e = 0; e < 4; ++e) out |= (w >> (8 * e) & 15) << (4 * e) | (w >> (8 * e + 4) & 15) << (16 + 4 * e);
    return out;
}

// One warp a unit. raw: n_rows rows of `row_bytes`; missing rows and blocks become zeros.
extern "C" __global__ void repack(const u8* raw, u8* out, int type, int n_rows, int k, u64 row_bytes) {
    const int warp = (blockIdx.x * blockDim.x + threadIdx.x) >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const int unit_k = unit_of(type), per = (k + unit_k - 1) / unit_k, octets = (n_rows + 7) / 8;
    if (warp >= octets * per) return;
    const int octet = warp / per, unit = warp % per, row = octet * 8 + g;
    const u64 bytes = octet_bytes(type, k) / per;
    u8* p = out + (u64)octet * octet_bytes(type, k) + unit * bytes;
    if (row >= n_rows) raw = 0;
    else raw += row * row_bytes;
    if (unit_k == 128) {
        const int block_bytes = unit_bytes(type) / (8 * 4);
        u32 top = 0;
        for (int b = 0; b < 4; ++b) {
            const int block = unit * 4 + b;
            const u8* q = raw && block * 32 < k ? raw + (u64)block * block_bytes : 0;
            const int scale_at = (g * 4 + b) * 2;
            if (type == Q8_0) {
                put32(p + (b >> 1) * 512 + lane * 16 + (b & 1) * 8, q ? u32_at(q + 2 + 4 * t) : 0);
                put32(p + (b >> 1) * 512 + lane * 16 + (b & 1) * 8 + 4, q ? u32_at(q + 18 + 4 * t) : 0);
                if (t == 0) put16(p + 1024 + scale_at, q ? u16_at(q) : 0);
                continue;
            }
            if (type == MXFP4) {
                put32(p + lane * 16 + b * 4, q ? indices(u32_at(q + 1 + 4 * t)) : 0);
                if (t == 0) p[512 + g * 4 + b] = q ? q[0] : 0;
                continue;
            }
            if (type == IQ4_NL) {
                put32(p + lane * 16 + b * 4, q ? indices(u32_at(q + 2 + 4 * t)) : 0);
                if (t == 0) put16(p + 512 + scale_at, q ? u16_at(q) : 0);
                continue;
            }
            const int head = type == Q4_0 ? 2 : type == Q4_1 ? 4 : type == Q5_0 ? 6 : 8;
            put32(p + lane * 16 + b * 4, q ? u32_at(q + head + 4 * t) : 0);
            if (type == Q5_0) top |= fifth_bits(q ? u32_at(q + 2) : 0, t, b, 0xffffffffu);
            if (type == Q5_1) top |= fifth_bits(q ? u32_at(q + 4) : 0, t, b, 0);
            const int scales = type == Q4_0 || type == Q4_1 ? 512 : 640;
            if (t == 0 && (type == Q4_0 || type == Q5_0)) put16(p + scales + scale_at, q ? u16_at(q) : 0);
            if (t == 0 && (type == Q4_1 || type == Q5_1)) put32(p + scales + 2 * scale_at, q ? u32_at(q) : 0);
        }
        if (type == Q5_0 || type == Q5_1) put32(p + 512 + lane * 4, top);
        return;
    }
    const u8* q = raw ? raw + (u64)unit * (unit_bytes(type) / 8) : 0;
    if (type == IQ4_XS) {
        for (int b = 0; b < 8; ++b) put32(p + (b >> 2) * 512 + lane * 16 + (b & 3) * 4, q ? indices(u32_at(q + 8 + b * 16 + 4 * t)) : 0);
        if (t < 2) put32(p + 1024 + g * 8 + t * 4, q ? u32_at(q + t * 4) : 0);
        return;
    }
    if (type == Q2_K || type == Q3_K) {
        const u8* pairs = q + (type == Q2_K ? 16 : 32);
        for (int j = 0; j < 4; ++j)             // words: low and high k of the first half, then of the second
            put32(p + lane * 16 + j * 4, q ? u32_at(pairs + (j >> 1) * 32 + (j & 1) * 16 + 4 * t) : 0);
        if (type == Q2_K) {
            put32(p + 512 + g * 16 + t * 4, q ? u32_at(q + t * 4) : 0);
            if (t == 0) put32(p + 640 + g * 4, q ? u32_at(q + 80) : 0);
            return;
        }
        for (int high = 0; high < 2; ++high) put32(p + 512 + lane * 8 + high * 4, ~(q ? u32_at(q + high * 16 + 4 * t) : 0));
        if (t < 3) put32(p + 768 + g * 12 + t * 4, q ? u32_at(q + 96 + t * 4) : 0);
        if (t == 3) put16(p + 864 + g * 2, q ? u16_at(q + 108) : 0);
        return;
    }
    if (type == Q6_K) {
        for (int half = 0; half < 2; ++half) {
            for (int j = 0; j < 4; ++j)         // words: low and high k of even blocks, then of odd ones
                put32(p + half * 512 + lane * 16 + j * 4, q ? u32_at(q + half * 64 + (j >> 1) * 32 + (j & 1) * 16 + 4 * t) : 0);
            for (int j = 0; j < 2; ++j)
                put32(p + 1024 + lane * 16 + half * 8 + j * 4, (q ? u32_at(q + 128 + half * 32 + j * 16 + 4 * t) : 0) ^ 0xaaaaaaaau);
        }
        put32(p + 1536 + g * 16 + t * 4, q ? u32_at(q + 192 + t * 4) : 0);
        if (t == 0) put16(p + 1664 + g * 2, q ? u16_at(q + 208) : 0);
        return;
    }
    const u8* nibbles = q + (type == Q4_K ? 16 : 48);
    for (int chunk = 0; chunk < 4; ++chunk)
        for (int high = 0; high < 2; ++high)
            put32(p + (chunk >> 1) * 512 + lane * 16 + (chunk & 1) * 8 + high * 4, q ? u32_at(nibbles + chunk * 32 + high * 16 + 4 * t) : 0);
    put32(p + 1024 + g * 16 + t * 4, q ? u32_at(q + t * 4) : 0);
    if (type == Q5_K)
        for (int high = 0; high < 2; ++high) put32(p + 1152 + lane * 8 + high * 4, q ? u32_at(q + 16 + high * 16 + 4 * t) : 0);
}

// out: (rows, k) float32.
extern "C" __global__ void unpack(const u8* base, int type, int rows, int k, float* out) {
    for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < (u64)rows * k; i += (u64)gridDim.x * blockDim.x)
        out[i] = element(type, base, i / k, (int)(i % k), k);
}
