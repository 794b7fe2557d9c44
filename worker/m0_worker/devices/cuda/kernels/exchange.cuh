// How blocks hand activations to each other without a barrier: a value is its own flag.
//
// Every buffer of activations lies in two sets, one for even positions and one for odd ones. Within a step each value is
// written once, by one thread, and before that it holds ARMED, the bits of a NaN that no result has. Who needs a value
// reads it until it is another. Whoever writes a value of this step's set arms the same place of the other set: its
// readers ended with the last step, its writers start with the next. The host arms both sets when a job begins.
//
// Each set lies there COPIES times, and each block reads one of them: a line that all blocks ask for again and again is
// asked for by fewer.
//
// A value needs no fence: it is the only thing that its reader takes from its writer.
#pragma once

#define ARMED 0xffffffffu
#ifndef SPINS
#define SPINS (1u << 24)        // reads of one value, some 10 s: then something is broken, and an error beats a hang
#endif

DEV void spun(u32& n) {
    if (++n == SPINS) asm volatile("trap;");
}

DEV bool armed(float v) { return __float_as_uint(v) == ARMED; }
DEV bool armed(float2 v) { return armed(v.x) || armed(v.y); }
DEV bool armed(float4 v) { return armed(v.x) || armed(v.y) || armed(v.z) || armed(v.w); }

// What is there now. Never from L1, which does not see other blocks' writes.
DEV float glance(const float* p) {
    float v;
    asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(v) : "l"(p) : "memory");
    return v;
}
DEV float2 glance2(const float* p) {
    float2 v;
    asm volatile("ld.relaxed.gpu.global.v2.f32 {%0,%1}, [%2];" : "=f"(v.x), "=f"(v.y) : "l"(p) : "memory");
    return v;
}
DEV float4 glance4(const float* p) {
    float4 v;
    asm volatile("ld.relaxed.gpu.global.v4.f32 {%0,%1,%2,%3}, [%4];"
        : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(p) : "memory");
    return v;
}

// The value once it was written; v is what a glance has seen.
DEV float await(const float* p, float v) {
    for (u32 n = 0; armed(v); spun(n)) v = glance(p);
    return v;
}
DEV float await(const float* p) { return await(p, glance(p)); }
DEV float4 await4(const float* p, float4 v) {
    for (u32 n = 0; armed(v); spun(n)) v = glance4(p);
    return v;
}
DEV float4 await4(const float* p) { return await4(p, glance4(p)); }

// Floats from an address of the program to where this block reads this step's set, to the first copies of this step's set
// and of the other, and from a copy to the next.
struct Sets { u32 here, to, there, stride; };

DEV void publish(float* to, float* there, u32 stride, float v) {
    const u32 bits = armed(v) ? 0x7fffffffu : __float_as_uint(v);
#pragma unroll
    for (int c = 0; c < COPIES; ++c)
        asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" :: "l"(to + c * stride), "r"(bits) : "memory");
#pragma unroll
    for (int c = 0; c < COPIES; ++c)
        asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" :: "l"(there + c * stride), "r"(ARMED) : "memory");
}
DEV void publish(float* p, Sets sets, float v) { publish(p + sets.to, p + sets.there, sets.stride, v); }

// Asks for a value without waiting: it comes into shared memory, and is there after asked_are_here().
DEV void ask_for(float* to, const float* p) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"((u32)__cvta_generic_to_shared(to)), "l"(p) : "memory");
}
DEV void asked_are_here() { asm volatile("cp.async.wait_all;" ::: "memory"); }
