// CUDA for a C++ compiler: what csrc/cuda/device.h includes where there is no GPU.
#pragma once

#include "async_copy.h"
#include "atomics.h"
#include "launch.h"
#include "numbers.h"
#include "vocabulary.h"
#include "warp.h"
