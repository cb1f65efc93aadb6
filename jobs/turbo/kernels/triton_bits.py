"""The bit tricks inside the kernels: codes to floats without a conversion instruction, pairs to and from 32-bit words.

The physics: an H100 reads 6e12 4-bit weights a second and issues 29e12 32-bit operations: 4.8 a weight. A shift, a
mask, a conversion (a quarter of the rate) and a multiply-add need more. The trick (Kim et al., "Who says elephants
can't run", 2022): in a 16-bit float 1024 + c the code c stands in the lowest bits, so `(word & 0x000f000f) |
0x64006400` is two codes as floats in one instruction; one subtraction takes 1024 and the zero point away, exactly. The
nibble above it is 1024 + 16 c, which one multiply-add brings to c - zero. Two weights an instruction everywhere.

Each helper has a plain form beside the inline PTX: the interpreter cannot run PTX, and the plain form proves the order
of the bits. `ASM` chooses.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton reads these functions as text; their types are the device's.

import triton
import triton.language as tl


@triton.jit
def split_pair(pair, BF16: tl.constexpr):
    """The two 16-bit floats in an int32, the lower address first, as float32."""
    if BF16:
        low = (pair << 16).to(tl.float32, bitcast=True)
        high = (pair & -65536).to(tl.float32, bitcast=True)
    else:
        low = (pair & 0xFFFF).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
        high = (pair >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    return low, high


@triton.jit
def join_half_pair(low, high, ASM: tl.constexpr):
    """Two float32 as float16 in one int32."""
    if ASM:
        return tl.inline_asm_elementwise(
            "cvt.rn.f16x2.f32 $0, $2, $1;", "=r,f,f", [low, high], dtype=tl.int32, is_pure=True, pack=1
        )
    low_bits = low.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
    high_bits = high.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
    return low_bits | (high_bits << 16)


@triton.jit
def _nibble_products(word, pair, zero, J: tl.constexpr):
    low, high = split_pair(pair, False)
    code_low = ((word >> (4 * J)) & 15).to(tl.float32)
    code_high = ((word >> (16 + 4 * J)) & 15).to(tl.float32)
    return (code_low - zero) * low + (code_high - zero) * high


@triton.jit
def int4_dot(word, x0, x1, x2, x3, zero, ASM: tl.constexpr):
    """sum over a word's 8 codes of (code - zero) * x, float32. x0..x3: float16 pairs; zero: float32, a whole number.

    With PTX the 8 products are summed in float16 (its 11 bits are more than bfloat16 inputs have), so they must stay
    below 65,504: the caller scales x.
    """
    if ASM:
        low_bias = join_half_pair(zero + 1024.0, zero + 1024.0, True)
        high_bias = join_half_pair(-64.0 - zero, -64.0 - zero, True)
        return tl.inline_asm_elementwise(
            """
            {
            .reg .b32 s, t0, t1, t2, t3, c, m;
            .reg .b16 l, h;
            .reg .f32 f, g;
            mov.b32 c, 0x64006400;
            mov.b32 m, 0x2c002c00;
            shr.u32 s, $1, 8;
            lop3.b32 t0, $1, 0x000f000f, c, 0xea;
            lop3.b32 t1, $1, 0x00f000f0, c, 0xea;
            lop3.b32 t2, s, 0x000f000f, c, 0xea;
            lop3.b32 t3, s, 0x00f000f0, c, 0xea;
            sub.rn.f16x2 t0, t0, $6;
            fma.rn.f16x2 t1, t1, m, $7;
            sub.rn.f16x2 t2, t2, $6;
            fma.rn.f16x2 t3, t3, m, $7;
            mul.rn.f16x2 t0, t0, $2;
            fma.rn.f16x2 t0, t1, $3, t0;
            fma.rn.f16x2 t0, t2, $4, t0;
            fma.rn.f16x2 t0, t3, $5, t0;
            mov.b32 {l, h}, t0;
            cvt.f32.f16 f, l;
            cvt.f32.f16 g, h;
            add.f32 $0, f, g;
            }
            """,
            "=f,r,r,r,r,r,r,r",
            [word, x0, x1, x2, x3, low_bias, high_bias],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
    total = _nibble_products(word, x0, zero, 0) + _nibble_products(word, x1, zero, 1)
    return total + _nibble_products(word, x2, zero, 2) + _nibble_products(word, x3, zero, 3)


@triton.jit
def _bfloat16_operands(halves, zero):
    """128 + c has the code in its lowest bits; the 7 bits of the fraction have no room for the nibble above it."""
    return tl.inline_asm_elementwise(
        """
        {
        .reg .b32 s, c;
        mov.b32 c, 0x43004300;
        lop3.b32 $0, $4, 0x000f000f, c, 0xea;
        shr.u32 s, $4, 4;
        lop3.b32 $1, s, 0x000f000f, c, 0xea;
        shr.u32 s, $4, 8;
        lop3.b32 $2, s, 0x000f000f, c, 0xea;
        shr.u32 s, $4, 12;
        lop3.b32 $3, s, 0x000f000f, c, 0xea;
        sub.rn.bf16x2 $0, $0, $5;
        sub.rn.bf16x2 $1, $1, $5;
        sub.rn.bf16x2 $2, $2, $5;
        sub.rn.bf16x2 $3, $3, $5;
        }
        """,
        "=&r,=&r,=&r,=&r,r,r",
        [halves, (zero + 128.0).to(tl.bfloat16)],
        dtype=(tl.bfloat16, tl.bfloat16, tl.bfloat16, tl.bfloat16),
        is_pure=True,
        pack=2,
    )


@triton.jit
def _float16_operands(halves, zero):
    return tl.inline_asm_elementwise(
        """
        {
        .reg .b32 s, c, m;
        mov.b32 c, 0x64006400;
        mov.b32 m, 0x2c002c00;
        shr.u32 s, $4, 8;
        lop3.b32 $0, $4, 0x000f000f, c, 0xea;
        lop3.b32 $1, $4, 0x00f000f0, c, 0xea;
        lop3.b32 $2, s, 0x000f000f, c, 0xea;
        lop3.b32 $3, s, 0x00f000f0, c, 0xea;
        sub.rn.f16x2 $0, $0, $5;
        fma.rn.f16x2 $1, $1, m, $6;
        sub.rn.f16x2 $2, $2, $5;
        fma.rn.f16x2 $3, $3, m, $6;
        }
        """,
        "=&r,=&r,=&r,=&r,r,r,r",
        [halves, (zero + 1024.0).to(tl.float16), (-64.0 - zero).to(tl.float16)],
        dtype=(tl.float16, tl.float16, tl.float16, tl.float16),
        is_pure=True,
        pack=2,
    )


@triton.jit
def _plain_operands(halves, zero):
    wide = halves.to(tl.int32)
    w0, w1 = (wide & 15).to(tl.float32) - zero, ((wide >> 4) & 15).to(tl.float32) - zero
    w2, w3 = ((wide >> 8) & 15).to(tl.float32) - zero, ((wide >> 12) & 15).to(tl.float32) - zero
    return w0, w1, w2, w3


@triton.jit
def int4_operands(halves, zero, BF16: tl.constexpr, ASM: tl.constexpr):
    """Four operands (code - zero), one for each nibble of int16 words, exact in either 16-bit type. zero: float32."""
    kind: tl.constexpr = tl.bfloat16 if BF16 else tl.float16
    if not ASM:
        w0, w1, w2, w3 = _plain_operands(halves, zero)
        w0, w1, w2, w3 = w0.to(kind), w1.to(kind), w2.to(kind), w3.to(kind)
    elif BF16:
        w0, w1, w2, w3 = _bfloat16_operands(halves, zero)
    else:
        w0, w1, w2, w3 = _float16_operands(halves, zero)
    return w0, w1, w2, w3


@triton.jit
def _float16_of_bytes(codes):
    return tl.inline_asm_elementwise(
        """
        {
        .reg .b32 s, c;
        mov.b32 c, 0x64646464;
        xor.b32 s, $2, 0x80808080;
        prmt.b32 $0, s, c, 0x4140;
        prmt.b32 $1, s, c, 0x4342;
        mov.b32 c, 0x64806480;
        sub.rn.f16x2 $0, $0, c;
        sub.rn.f16x2 $1, $1, c;
        }
        """,
        "=&r,=&r,r",
        [codes],
        dtype=tl.float16,
        is_pure=True,
        pack=4,
    )


@triton.jit
def int8_operand(codes, BF16: tl.constexpr, ASM: tl.constexpr):
    """int8 codes as a 16-bit type, exact in either. A byte b under 0x64 is the float16 1024 + b: as in `int8_dot`.

    bfloat16 has no room for a byte above 128, so there the conversion instruction stays.
    """
    if BF16:
        operand = codes.to(tl.bfloat16)
    elif ASM:
        operand = _float16_of_bytes(codes)
    else:
        operand = codes.to(tl.float16)
    return operand


@triton.jit
def int8_dot(word, x0, x1, x2, x3, ASM: tl.constexpr):
    """sum over a word's 4 signed bytes of byte * x, in float32 throughout.

    A byte b under 0x4b000000 is the float 2^23 + b: a permutation and a subtraction, each at full rate, where the
    conversion instruction has a quarter of it. The sign: b ^ 0x80 is b + 128.
    """
    if ASM:
        return tl.inline_asm_elementwise(
            """
            {
            .reg .b32 s, c;
            .reg .f32 a0, a1, a2, a3;
            mov.b32 c, 0x4b000000;
            xor.b32 s, $1, 0x80808080;
            prmt.b32 a0, s, c, 0x7650;
            prmt.b32 a1, s, c, 0x7651;
            prmt.b32 a2, s, c, 0x7652;
            prmt.b32 a3, s, c, 0x7653;
            sub.f32 a0, a0, 0f4b000080;
            sub.f32 a1, a1, 0f4b000080;
            sub.f32 a2, a2, 0f4b000080;
            sub.f32 a3, a3, 0f4b000080;
            mul.f32 a0, a0, $2;
            fma.rn.f32 a0, a1, $3, a0;
            fma.rn.f32 a0, a2, $4, a0;
            fma.rn.f32 $0, a3, $5, a0;
            }
            """,
            "=f,r,f,f,f,f",
            [word, x0, x1, x2, x3],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
    front = (word << 24 >> 24).to(tl.float32) * x0 + (word << 16 >> 24).to(tl.float32) * x1
    return front + (word << 8 >> 24).to(tl.float32) * x2 + (word >> 24).to(tl.float32) * x3
