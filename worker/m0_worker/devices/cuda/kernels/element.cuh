// One stored weight by itself: embedding rows, and the reference that tests compare products with.
#pragma once

DEV u32 byte_of(const u8* p, int i) { return p[i]; }
DEV float half_at(const u8* p) { return from_half(*(const u16*)p); }

// Weight (row, k) of a matrix whose first octet is at base; rows of float matrices lie one after the other.
CALL float element(int type, const u8* base, u64 row, int k, int n_k) {
    if (type == F32) return ((const float*)base)[row * n_k + k];
    if (type == F16) return from_half(((const u16*)base)[row * n_k + k]);
    if (type == BF16) return from_bf16(((const u16*)base)[row * n_k + k]);
    const int unit_k = unit_of(type);
    const int g = (int)(row & 7), i = k % unit_k, b = i / 32, j = i % 32, t = (j & 15) >> 2, e = j & 3, high = j >> 4;
    const u8* p = base + (row >> 3) * (u64)octet_bytes(type, n_k) + (u64)(k / unit_k) * (octet_bytes(type, n_k) / ((n_k + unit_k - 1) / unit_k));
    const int lane = g * 4 + t;
    // 128-weight units: word b of the lane's four holds block b.
    const u8* word = p + lane * 16 + b * 4 + e;
    switch (type) {
        case Q4_0: return half_at(p + 512 + (g * 4 + b) * 2) * (float)((int)((*word >> (4 * high)) & 15) - 8);
        case Q4_1: return fmaf(half_at(p + 512 + (g * 4 + b) * 4), (float)((*word >> (4 * high)) & 15), half_at(p + 514 + (g * 4 + b) * 4));
        case MXFP4: {
            u32 w = *(const u32*)(p + lane * 16 + b * 4) >> (16 * high + 4 * e);
            const float values[8] = {0.f, 1.f, 2.f, 3.f, 4.f, 6.f, 8.f, 12.f};
            float v = values[w & 7] * from_e8m0_half(p[512 + g * 4 + b]);
            return w & 8 ? -v : v;
        }
        case IQ4_NL: {
            u32 w = *(const u32*)(p + lane * 16 + b * 4) >> (16 * high + 4 * e);
            return half_at(p + 512 + (g * 4 + b) * 2) * (float)(s8)(iq4(w) & 0xff);
        }
        case IQ4_XS: {
            u32 w = *(const u32*)(p + (b >> 2) * 512 + lane * 16 + (b & 3) * 4) >> (16 * high + 4 * e);
            const u8* s = p + 1024 + g * 8;
            return half_at(s) * Unit<IQ4_XS>::scale(*(const uint2*)s, b) * (float)(s8)(iq4(w) & 0xff);
        }
        case Q2_K: {
            u32 q = p[lane * 16 + (b >> 2) * 8 + high * 4 + e] >> (2 * (b & 3)) & 3, s = p[512 + g * 16 + 2 * b + high];
            return half_at(p + 640 + g * 4) * (float)(s & 15) * (float)q - half_at(p + 642 + g * 4) * (float)(s >> 4);
        }
        case Q3_K: {
            u32 q = p[lane * 16 + (b >> 2) * 8 + high * 4 + e] >> (2 * (b & 3)) & 3;
            u32 top = (p[512 + lane * 8 + high * 4 + e] >> b & 1) ^ 1;
            const u32* s = (const u32*)(p + 768 + g * 12);
            float sc = Unit<Q3_K>::scale(Unit<Q3_K>::scales(s[0], s[1], s[2], b >> 1), 2 * (b & 1) + high);
            return half_at(p + 864 + g * 2) * sc * (float)((int)(q | top << 2) - 4);
        }
        case Q5_0: {
            u32 top = *(const u32*)(p + 512 + lane * 4) >> (8 * e + 2 * b + high) & 1;
            return half_at(p + 640 + (g * 4 + b) * 2) * (float)((int)(((*word >> (4 * high)) & 15) | (top ? 0 : 16)) - 16);
        }
        case Q5_1: {
            u32 top = *(const u32*)(p + 512 + lane * 4) >> (8 * e + 2 * b + high) & 1;
            return fmaf(half_at(p + 640 + (g * 4 + b) * 4), (float)(((*word >> (4 * high)) & 15) | (top ? 16 : 0)), half_at(p + 642 + (g * 4 + b) * 4));
        }
        case Q8_0: {
            s8 q = (s8)p[(b >> 1) * 512 + lane * 16 + (b & 1) * 8 + high * 4 + e];
            return half_at(p + 1024 + (g * 4 + b) * 2) * (float)q;
        }
        case Q4_K: case Q5_K: {
            int chunk = b >> 1;
            const u8* s = p + 1024 + g * 16;
            u32 q = p[(chunk >> 1) * 512 + lane * 16 + (chunk & 1) * 8 + high * 4 + e] >> (4 * (b & 1)) & 15;
            if (type == Q5_K) q |= (p[1152 + lane * 8 + high * 4 + e] >> b & 1) << 4;
            u32 sc = six_bits(*(const u32*)(s + 4), *(const u32*)(s + 12), b >> 2) >> (8 * (b & 3)) & 63;
            u32 mn = six_bits(*(const u32*)(s + 8), *(const u32*)(s + 12) >> 4, b >> 2) >> (8 * (b & 3)) & 63;
            return half_at(s) * (float)sc * (float)q - half_at(s + 2) * (float)mn;
        }
        default: {              // Q6_K
            int half = b >> 2, c = b & 3;
            u32 low = p[half * 512 + lane * 16 + (c & 1) * 8 + high * 4 + e] >> (c & 2 ? 4 : 0) & 15;
            u32 top = (p[1024 + lane * 16 + half * 8 + high * 4 + e] >> (2 * c) & 3) ^ 2;
            float d = half_at(p + 1664 + g * 2) * (float)(s8)p[1536 + g * 16 + b * 2 + high];
            return d * (float)((int)(low | top << 4) - 32);
        }
    }
}
