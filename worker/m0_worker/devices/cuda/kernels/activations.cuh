// Activation functions, in float32. Exponentials and quotients are the fast ones, some 1e-7 off.
#pragma once

DEV float swiglu(float gate, float up) { return __fdividef(gate, 1.f + __expf(-gate)) * up; }
DEV float swiglu_oai(float gate, float up) {
    gate = fminf(gate, 7.f);
    up = fminf(fmaxf(up, -7.f), 7.f);
    return __fdividef(gate, 1.f + __expf(-1.702f * gate)) * (up + 1.f);
}
DEV float gelu(float x) {
    return 0.5f * x * (1.f + tanhf(0.79788456080286535588f * x * fmaf(0.044715f * x, x, 1.f)));
}
