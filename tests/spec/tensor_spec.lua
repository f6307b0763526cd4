-- The tensor library: counting, dtypes, views, writing in place, printing, messages.

local lc = require "lacuna"

--- The message of an error, without the place in front.
local function message(fn, ...)
  local ok, text = pcall(fn, ...)
  assert.is_false(ok)
  return (tostring(text):gsub("^[^:]+:%d+: ", ""))
end

describe("a reduction", function()
  it("takes each dimension once", function()
    local x = lc.ones { 2, 3, 4 }
    for _, name in ipairs { "sum", "mean", "max", "norm", "all", "var", "std" } do
      assert.equal(name .. ": dimension 1 is in the list twice", message(x[name], x, { 1, 1 }))
      assert.equal(name .. ": dimension 3 is in the list twice", message(x[name], x, { 3, 2, -1 }))
    end
  end)
end)

local function eye_view()
  return lc.arange(24):reshape { 2, 3, 4 }
end

describe("NaN", function()
  it("has no sign where it is shown", function()
    for _, zero in ipairs { 0.0, -0.0 } do
      local x = lc.tensor { zero / zero, -(zero / zero) }
      assert.is_nil(tostring(x):find("-nan", 1, true))
      assert.equal("nan", tostring(x[1]:item()))
      assert.equal("nan", tostring(x:totable()[2]))
      assert.is_nil(tostring(lc.tensor { 1e308, -1e308 }:to "f64"):find("-nan", 1, true))
      assert.equal("gradcheck: option 'step' must be from 1e-12 to 1, got nan",
        message(lc.gradcheck, print, { x }, { step = zero / zero }))
    end
  end)
end)

describe("a tensor from a table", function()
  it("is f32 unless told otherwise, and bool from booleans", function()
    assert.equal("f32", lc.tensor({ 1, 2 }).dtype)
    assert.equal("i64", lc.tensor({ 1, 2 }, { dtype = "i64" }).dtype)
    assert.equal("bool", lc.tensor({ { true }, { false } }).dtype)
    assert.equal("f64", lc.tensor(3, { dtype = "float64" }).dtype)
    assert.same({ { 1, 2 }, { 3, 4 } }, lc.tensor({ { 1, 2 }, { 3, 4 } }):totable())
    assert.same({ { true, false } }, lc.tensor({ { true, false } }):totable())
  end)

  it("has the table's shape, empty ones included", function()
    assert.same({ 0 }, lc.tensor({}).shape)
    assert.same({ 2, 0 }, lc.tensor({ {}, {} }).shape)
    assert.same({}, lc.tensor(1).shape)
    assert.same({ 1, 1, 3 }, lc.tensor({ { { 1, 2, 3 } } }).shape)
  end)

  it("is refused when ragged or made of other things", function()
    assert.matches("dtype stands among the numbers; options are a second table",
      select(2, pcall(lc.tensor, { 1, 2, dtype = "f64" })), 1, true)
    assert.equal("tensor: tables in dimension 2 must have equal lengths, got 2 and 1",
      message(lc.tensor, { { 1, 2 }, { 3 } }))
    assert.equal("tensor: tables must be nested alike: expected a table of 2 entries, got 3",
      message(lc.tensor, { { 1, 2 }, 3 }))
    assert.equal("tensor: entries must be numbers or booleans, got the string '1'", message(lc.tensor, { "1" }))
    assert.equal("tensor: 1.5 does not fit into i64", message(lc.tensor, { 1.5 }, { dtype = "i64" }))
    assert.equal("tensor: 300 does not fit into u8", message(lc.tensor, { 300 }, { dtype = "u8" }))
  end)

  it("can be a copy of a tensor, apart from it", function()
    local x = lc.ones { 2 }
    local y = lc.tensor(x)
    y:zero_()
    assert.same({ 1, 1 }, x:totable())
  end)
end)

describe("a number that the dtype cannot hold", function()
  it("is refused where it would be written", function()
    assert.same({ 7, 7 }, lc.full({ 2 }, 7, { dtype = "u8" }):totable())
    assert.same({ 7, 7 }, lc.zeros({ 2 }, { dtype = "i32" }):fill_(7.0):totable())
    local bytes, integers = lc.zeros({ 2 }, { dtype = "u8" }), lc.zeros({ 2 }, { dtype = "i64" })
    local first = lc.tensor { true, false }
    for text, fn in pairs {
      ["full: 300 does not fit into a tensor of u8"] = function() lc.full({ 2 }, 300, { dtype = "u8" }) end,
      ["full: 0.5 does not fit into a tensor of i64"] = function() lc.full({ 2 }, 0.5, { dtype = "i64" }) end,
      ["tensor: 1.5 does not fit into a tensor of i64"] = function() lc.tensor(1.5, { dtype = "i64" }) end,
      ["full_like: -1 does not fit into a tensor of u8"] = function() bytes:full_like(-1) end,
      ["fill_: 256 does not fit into a tensor of u8"] = function() bytes:fill_(256) end,
      ["masked_fill: -inf does not fit into a tensor of i64"] = function() integers:masked_fill(first, -math.huge) end,
      ["newindex: 0.5 does not fit into a tensor of i64"] = function() integers[1] = 0.5 end,
      ["newindex: a tensor of i64 cannot hold floats; use x:to"] = function() integers[1] = lc.ones { 1 } end,
      ["arange: 256 does not fit into a tensor of u8"] = function() lc.arange(0, 300, { dtype = "u8" }) end,
      ["linspace: 0.5 does not fit into a tensor of i64"] = function() lc.linspace(0, 1, 3, { dtype = "i64" }) end,
      ["randint: 299 does not fit into a tensor of u8"] = function() lc.randint(0, 300, { 2 }, { dtype = "u8" }) end,
    } do assert.equal(text, message(fn)) end
    assert.same({ 0, 0, 0, 0 }, lc.cat { bytes, integers }:totable())
  end)
end)

describe("options", function()
  it("are refused when unknown, with a suggestion", function()
    assert.equal("zeros: unknown option 'dtyp' (did you mean 'dtype'?)", message(lc.zeros, { 2 }, { dtyp = "f64" }))
    assert.equal("zeros: option 'device' must be 'cpu' or 'cuda', got the string 'gpu'",
      message(lc.zeros, { 2 }, { device = "gpu" }))
    assert.equal("zeros: options must be a table such as {dtype = ...}, got 3", message(lc.zeros, 2, 3))
    assert.equal("sum: option 'keepdim' must be true or false, got 1",
      message(lc.sum, lc.zeros { 2 }, 1, { keepdim = 1 }))
    assert.equal("var: option 'correction' must be from 0 to 1, got 2",
      message(lc.var, lc.zeros { 2 }, 1, { correction = 2 }))
  end)
end)

describe("counting", function()
  local x = eye_view()

  it("is from 1, and from the end with negative numbers", function()
    assert.equal(0, x[1][1][1]:item())
    assert.equal(23, x[-1][-1][-1]:item())
    assert.same(x:select(3, 4):totable(), x:select(-1, -1):totable())
    assert.same({ { 5, 6 }, { 9, 10 } }, x { 1, { 2, 3 }, { 2, -2 } }:totable())
    assert.same({ 1, 3, 5 }, lc.arange(6) { { 2, 6, 2 } }:totable())
    assert.same(x[{ 2, {}, 1 }]:totable(), x { 2, {}, 1 }:totable())
  end)

  it("is from 0 for what is stored", function()
    assert.equal(2, lc.tensor({ 1, 5, 9 }):argmax():item())
    assert.same({ 20, 10 }, lc.tensor({ 10, 20 }):index(lc.tensor({ 1, 0 }, { dtype = "i64" })):totable())
    assert.same({ 20, 10 }, lc.tensor({ 10, 20 }):index({ 1, 0 }):totable())
    local _, indices = lc.tensor({ 3, 1, 2 }):sort()
    assert.same({ 1, 2, 0 }, indices:totable())
  end)

  it("says what is outside", function()
    assert.equal("index 3 is outside 1..2 (indices count from 1; -1 is the last)", message(function() return x[3] end))
    assert.equal("index 0 is outside 1..2 (indices count from 1; -1 is the last)", message(function() return x[0] end))
    assert.equal("sum: dimension 4 is outside 1..3 (dimensions count from 1; -1 is the last)", message(lc.sum, x, 4))
    assert.equal("sum: dimension 0 is outside 1..3 (dimensions count from 1; -1 is the last)", message(lc.sum, x, 0))
    assert.equal("the range from 3 to 2 is empty", message(function() return x { 1, { 3, 2 } } end))
    assert.equal("4 indices for a tensor of 3 dimensions (2, 3, 4)", message(function() return x { 1, 1, 1, 1 } end))
    assert.equal("a range is {}, {first, last} or {first, last, step}", message(function() return x { { 1 } } end))
    assert.equal("x[t] is not a view: use x:index(t), or x:masked_fill_(t, number)",
      message(function() return x[lc.zeros(1)] end))
  end)
end)

describe("a view", function()
  it("shares the storage", function()
    local x = lc.zeros { 3, 4 }
    x[2]:fill_(1)
    x { {}, 1 }:add_(2)
    x:t()[4]:copy_ { 7, 8, 9 }
    x:diagonal():sub_(1)
    assert.same({ { 1, 0, 0, 7 }, { 3, 0, 1, 8 }, { 2, 0, -1, 9 } }, x:totable())
  end)

  it("can be assigned to", function()
    local x = lc.zeros { 2, 3 }
    x[1] = 5
    x[{ 2, { 2, 3 } }] = { 1, 2 }
    x[{ {}, 1 }] = lc.tensor { 8, 9 }
    assert.same({ { 8, 5, 5 }, { 9, 1, 2 } }, x:totable())
  end)

  it("of one tensor sees what another wrote, reshaped ones too", function()
    local x = lc.arange(6)
    x:reshape({ 2, 3 })[2][1] = 40
    assert.equal(40, x[4]:item())
  end)
end)

describe("dtypes", function()
  local function sum_dtype(a, b)
    return (lc.zeros({ 1 }, { dtype = a }) + lc.zeros({ 1 }, { dtype = b })).dtype
  end

  it("go up: bool, u8, i32, i64, f32, f64", function()
    assert.equal("i32", sum_dtype("bool", "bool"))
    assert.equal("u8", sum_dtype("bool", "u8"))
    assert.equal("i64", sum_dtype("i64", "u8"))
    assert.equal("f32", sum_dtype("i64", "f32"))
    assert.equal("f64", sum_dtype("f32", "f64"))
  end)

  it("follow a number only from integers to f32", function()
    local function with(dtype, number) return (lc.zeros({ 1 }, { dtype = dtype }) + number).dtype end
    assert.equal("i64", with("i64", 2))
    assert.equal("f32", with("i64", 2.0))
    assert.equal("f32", with("f32", 2))
    assert.equal("f64", with("f64", 2.5))
    assert.equal("u8", with("u8", 7))
    assert.equal("i32", with("bool", 1))
    assert.equal("f32", with("bool", 0.5))
    assert.equal("f32", (lc.tensor({ 3 }, { dtype = "i32" }) / 2).dtype)
    assert.equal("add: 300 does not fit into a tensor of u8; use x:to 'i64'",
      message(function() return lc.zeros({ 1 }, { dtype = "u8" }) + 300 end))
    assert.same({ 1, 0.5 }, (lc.arange(1, 3) ^ -1):totable())
    assert.equal("pow_: a negative power gives floats, which a tensor of i64 cannot hold; use x:to",
      message(function() lc.arange(1, 3):pow_(-1) end))
  end)

  it("of halves are only for storing", function()
    local x = lc.tensor({ 1 / 3 }):to "bf16"
    assert.equal("bf16", x.dtype)
    assert.is_true(math.abs(x:to("f32"):item() - 1 / 3) < 2e-3)
    assert.equal("add: bf16 is a storage type; cast with x:to('f32') first", message(lc.add, x, x))
  end)

  it("of u8 are no masks", function()
    local x = lc.ones({ 2 }, { dtype = "u8" })
    assert.equal("& | ~ are for tensors of booleans, got u8; compare first, as in x:ne(0)",
      message(function() return x & x end))
    assert.equal("masked_fill: a mask is a tensor of booleans, got u8; compare first, as in x:ne(0)",
      message(function() return lc.ones({ 2 }):masked_fill(x, 0) end))
  end)
end)

describe("an operator", function()
  local x = lc.tensor { 1, 2 }

  it("that would give one boolean raises", function()
    assert.equal("tensors are compared by methods: use a:lt(b), or a:gt(b) with a tensor on the left "
      .. "(Lua makes one boolean of a < b)", message(function() return x < x end))
    assert.equal("tensors are compared by methods: use a:le(b), or a:ge(b) with a tensor on the left "
      .. "(Lua makes one boolean of a <= b)", message(function() return 1 >= x end))
  end)

  it("says what it got", function()
    assert.equal("add: expected a tensor or a number, got the string '1'", message(function() return x + "1" end))
    assert.equal("mul: argument 1: expected a tensor or a number, got nil", message(function() return x:mul() end))
    assert.equal("matmul: argument 1: expected a tensor, got 3", message(function() return x:matmul(3) end))
    assert.equal("matmul: argument 2: expected a tensor, got a table", message(lc.matmul, x, {}))
  end)

  it("makes zeros of a product over nothing, whatever the strides", function()
    local one = lc.ones { 70, 1 }
    for _, a in ipairs { one:expand { 70, 0 }, one:t():expand({ 0, 70 }):t(), lc.zeros { 70, 0 } } do
      for _, b in ipairs { lc.zeros { 2, 0, 17 }, lc.zeros({ 17, 0 }):t(), lc.ones({ 1 }):expand { 0, 17 } } do
        collectgarbage()
        lc.ones { 2 * 70 * 17 } -- what the product's buffer may have held
        assert.is_true(a:matmul(b):eq(0):all():item())
      end
    end
  end)

  it("names both shapes when they do not fit", function()
    assert.matches("%(2%).*%(3%)", message(function() return x + lc.zeros(3) end))
    assert.equal("matmul: inner sizes differ: (2, 2) x (3, 3)",
      message(lc.matmul, lc.zeros { 2, 2 }, lc.zeros { 3, 3 }))
  end)

  it("# is the size of the first dimension", function()
    assert.equal(2, #lc.zeros { 2, 5 })
    assert.equal("#x: a tensor without dimensions has no length; use x:item()",
      message(function() return #lc.tensor(1) end))
  end)
end)

describe("a name that tensors do not have", function()
  it("raises with a suggestion", function()
    local x = lc.zeros(1)
    assert.equal("a tensor has no 'matmull' (did you mean 'matmul'?)", message(function() return x:matmull(x) end))
    assert.equal("a tensor has no 'shap' (did you mean 'shape'?)", message(function() return x.shap end))
    assert.equal("a tensor's 'dtype' cannot be assigned to", message(function() x.dtype = "f64" end))
  end)
end)

describe("in place", function()
  it("a matrix is copied into a transposed one, and back, at any size", function()
    for _, size in ipairs { { 65, 130 }, { 1, 7 }, { 7, 1 }, { 33, 32 }, { 200, 3 } } do
      for _, dtype in ipairs { "f32", "f64", "i32", "u8" } do
        local x = lc.arange(size[1] * size[2]):reshape(size):to(dtype)
        local y = lc.zeros({ size[2], size[1] }, { dtype = dtype })
        y:t():copy_(x)
        assert.is_true(y:t():eq(x):all():item())
        assert.is_true(y:eq(x:t():clone()):all():item())
      end
    end
  end)

  it("gives the same numbers as the form that makes a tensor", function()
    local stream = lc.stream("in place", 3)
    for _, name in ipairs { "exp", "neg", "sigmoid", "sqrt", "square", "gelu", "round" } do
      local x = stream:rand { 3, 4 }
      local wanted = x[name](x)
      assert.equal(x, x[name .. "_"](x))
      assert.same(wanted:totable(), x:totable(), name)
    end
    for _, name in ipairs { "add", "sub", "mul", "div", "pow", "mod", "minimum", "maximum" } do
      local x, y = stream:rand { 3, 4 }, stream:rand { 4 }
      local wanted = x[name](x, y)
      x[name .. "_"](x, y)
      assert.same(wanted:totable(), x:totable(), name)
    end
  end)

  it("writes through strided views and onto itself", function()
    local x = lc.arange(6):to("f32"):reshape { 2, 3 }
    x:t():mul_(x:t())
    assert.same({ { 0, 1, 4 }, { 9, 16, 25 } }, x:totable())
    x { {}, 1 }:copy_(x { {}, 3 })
    assert.same({ { 4, 1, 4 }, { 25, 16, 25 } }, x:totable())
  end)

  it("adds a product, also of the tensor itself, and changes nothing when that fails", function()
    local x = lc.tensor { { 1, 2 }, { 3, 4 } }
    assert.same({ { 7.5, 11 }, { 16.5, 24 } }, x:clone():addmm_(x, x, { beta = 0.5 }):totable())
    local y = x:clone()
    assert.same({ { 7.5, 11 }, { 16.5, 24 } }, y:addmm_(y, y, { beta = 0.5 }):totable())
    assert.same({ { 14, 20 }, { 30, 44 } },
      lc.full({ 2, 2 }, 0 / 0):addmm_(x, x, { alpha = 2, beta = 0 }):totable())
    assert.equal("matmul: inner sizes differ: (2, 2) x (3, 2)",
      message(function() x:addmm_(x, lc.ones { 3, 2 }, { beta = 2 }) end))
    assert.same({ { 1, 2 }, { 3, 4 } }, x:totable())
    assert.equal("addmm_: the result has floats, which a tensor of i64 cannot hold; use x:to",
      message(function() x:to("i64"):addmm_(x, x) end))
  end)

  it("refuses what the tensor cannot hold", function()
    local x = lc.arange(3)
    assert.equal("div_: the result has floats, which a tensor of i64 cannot hold; use x:to",
      message(function() x:div_(2) end))
    assert.equal("add_: the result has floats, which a tensor of i64 cannot hold; use x:to",
      message(function() x:add_(0.5) end))
    assert.equal("fill_: 0.5 does not fit into a tensor of i64", message(function() x:fill_(0.5) end))
    assert.equal("copy_: a tensor of i64 cannot hold floats; use x:to", message(function() x:copy_(lc.zeros(3)) end))
  end)

  it("takes tensors without numbers", function()
    assert.same({ 3, 0, 2 }, lc.ones({ 3, 0, 2 }):mul_(2):add_(lc.ones { 2 }).shape)
  end)

  it("is refused where a view repeats its numbers", function()
    assert.equal("add_: this view shows one number in several places (expand); write into x:clone()",
      message(function() lc.tensor({ 1, 2 }):expand({ 3, 2 }):add_(1) end))
  end)

  it("puts rows and masked entries", function()
    local x = lc.zeros { 3, 2 }
    x:index_put_({ 2, 0 }, lc.tensor { { 1, 2 }, { 3, 4 } })
    assert.same({ { 3, 4 }, { 0, 0 }, { 1, 2 } }, x:totable())
    x:index_put_(x:eq(0), { 8, 9 })
    assert.same({ { 3, 4 }, { 8, 9 }, { 1, 2 } }, x:totable())
    x:scatter_(2, lc.tensor({ { 1 }, { 0 }, { 1 } }, { dtype = "i64" }), -1)
    assert.same({ { 3, -1 }, { -1, 9 }, { 1, -1 } }, x:totable())
    x:masked_fill_(x:lt(0), 0):clamp_(1, 3)
    assert.same({ { 3, 1 }, { 1, 3 }, { 1, 1 } }, x:totable())
  end)
end)

describe("clamp", function()
  it("moves integers to integers within its ends", function()
    assert.same({ 1, 1, 2, 2 }, lc.arange(4):clamp(0.5, 2.5):totable())
    assert.same({ 0, 1, 1, 1 }, lc.arange(4):clamp(nil, 1.9):totable())
    assert.same({ 0.5, 1, 2, 2.5 }, lc.arange(4):to("f32"):clamp(0.5, 2.5):totable())
  end)
end)

describe("keep", function()
  it("gives exactly n, ties to the lower index, by count and by share", function()
    local x = lc.tensor { 1, 1, 1, 1, 1 }
    assert.same({ true, true, false, false, false }, x:keep(2):totable())
    assert.equal(3, x:keep(0.5):sum():item()) -- what pruning floor(0.5 * 5) leaves
    assert.equal(5, x:keep(1.0):sum():item())
    assert.equal(1, x:keep(1):sum():item())
    assert.equal(0, x:keep(0.0):sum():item())
    assert.equal(55, lc.rand({ 100 }):keep(0.55):sum():item()) -- 0.55 * 100 is 55.00000000000001
    assert.same({ 1, 1 }, lc.rand({ 2, 7 }):keep(1, { dim = -1 }):sum(2):totable())
    assert.equal("keep: 6 of 5 entries cannot be kept", message(lc.keep, x, 6))
    assert.equal("keep: give dim, or scope = 'all', not both", message(lc.keep, x, 1, { dim = 1, scope = "all" }))
  end)
end)

describe("putting together", function()
  it("takes lists of any length", function()
    local list = {}
    for i = 1, 300 do list[i] = lc.tensor { i, -i } end
    local stacked, joined = lc.stack(list), lc.cat(list)
    assert.same({ 300, 2 }, stacked.shape)
    assert.same(stacked:flatten():totable(), joined:totable())
    assert.same({ 217, -217 }, stacked[217]:totable())
  end)

  it("is undone by split and chunk", function()
    local x = lc.rand { 5, 3 }
    assert.same(x:totable(), lc.cat(x:split(2)):totable())
    assert.same(x:totable(), lc.cat(x:split { 1, 4 }):totable())
    assert.same(x:totable(), lc.cat(x:chunk(2, 2), 2):totable())
    assert.equal("split: sizes sum to 4, dimension 1 has 5", message(lc.split, x, { 1, 3 }))
    assert.equal("cat: entry 2 of the list is 3, not a tensor", message(lc.cat, { x, 3 }))
    assert.equal("stack: shapes must be equal, got (5, 3) and (2)", message(lc.stack, { x, lc.zeros(2) }))
  end)
end)

describe("printing", function()
  it("shows what it is, statistics and the numbers", function()
    assert.equal("tensor f32 (2, 2)  min 0  max 4  mean 1.75  std 1.708  zeros 25.0%\n  0  1\n  2  4",
      tostring(lc.tensor { { 0, 1 }, { 2, 4 } }))
    assert.equal("tensor i64 ()  7", tostring(lc.tensor(7, { dtype = "i64" })))
    assert.equal("tensor bool (2)  min 0  max 1  mean 0.5  std 0.7071  zeros 50.0%\n   true  false",
      tostring(lc.tensor { true, false }))
    assert.equal("tensor f32 (0)", tostring(lc.zeros(0)))
    assert.matches("not finite 1", tostring(lc.tensor { 0 / 0, 1 }))
  end)

  it("shows at most 6 x 6 of them", function()
    local text = tostring(lc.arange(100):reshape { 10, 10 })
    local _, lines = text:gsub("\n", "")
    assert.equal(7, lines)
    assert.matches("\n    0    1    2  %.%.%.    7    8    9\n", text)
    assert.matches("\n  %.%.%.\n", text)
    assert.matches("\n   90   91   92  %.%.%.   97   98   99$", text)
    assert.matches("\n  0  1  2  3  4  5$", tostring(lc.arange(6)))
  end)
end)

describe("help", function()
  it("knows every function of the library, and what its options are", function()
    local docs = require "lacuna.core.docs"
    for name in pairs(require "lacuna.core.tensor") do
      local plain = name:gsub("_$", "")
      local row = docs["tensor:" .. name] or docs["tensor:" .. plain] or docs[name]
      assert.is_truthy(row, name)
      assert.is_true(#row.signature > 0 and #row.text > 0, name)
    end
    assert.equal("x:var([dim | dims], {keepdim, correction = 1}) -> tensor", docs["tensor:var"].signature)
    assert.same({ "keepdim", "correction" }, { docs.var.options[1].name, docs.var.options[2].name })
    assert.equal("1", docs.var.options[2].default)
  end)
end)

describe("the array library", function()
  it("reaches every op of ops.def but those that only gradients, updates and dispatch use", function()
    local other_name = { copy = "clone", fill = "fill_", triangle = "tril", sum_to = "expand" }
    local arrays = require "lacuna.core.tensor"
    for _, op in ipairs(require("lacuna.core.test").ops()) do
      local inner = op.name:find "_backward$" or op.name:find "_step$" or op.name:find "^kl" or op.name == "square_sum"
        or op.name == "zero_pruned" or op.name == "linear_cross_entropy"
      assert.is_truthy(inner or arrays[other_name[op.name] or op.name], op.name)
    end
  end)
end)

describe("random tensors", function()
  it("are the same for the same seed and stream, and others for others", function()
    lc.seed(11)
    local x, y = lc.randn { 5 }, lc.randn({ 5 }, { stream = "other" })
    lc.seed(11)
    assert.same(y:totable(), lc.randn({ 5 }, { stream = "other" }):totable())
    assert.same(x:totable(), lc.randn({ 5 }):totable())
    assert.not_same(x:totable(), y:totable())
    assert.same(lc.stream("a", 1):rand({ 3 }):totable(), lc.stream("a", 1):rand({ 3 }):totable())
    assert.not_same(lc.stream("a", 1):rand({ 3 }):totable(), lc.stream("a", 2):rand({ 3 }):totable())
  end)

  it("have the distribution they are named for", function()
    local stream = lc.stream("moments", 5)
    local normal, uniform = stream:randn({ 40000 }, { dtype = "f64" }), stream:rand { 40000 }
    assert.is_true(math.abs(normal:mean():item()) < 0.02 and math.abs(normal:std():item() - 1) < 0.02)
    assert.is_true(uniform:min():item() >= 0 and uniform:max():item() < 1)
    assert.is_true(math.abs(uniform:var():item() - 1 / 12) < 0.002)
    local whole = stream:randint(-2, 3, { 1000 })
    assert.same({ -2, 2 }, { whole:min():item(), whole:max():item() })
    assert.same(lc.arange(50):totable(), (stream:permutation(50):sort()):totable())
  end)

  it("go on where a saved state was", function()
    local random = require "lacuna.core.random"
    local stream = lc.stream("state", 9)
    stream:uniform()
    local here, everything = stream:state(), random.state()
    local next_number, next_tensor = stream:uniform(), lc.rand({ 3 }):totable()
    stream:restore(here)
    random.restore(everything)
    assert.equal(next_number, stream:uniform())
    assert.same(next_tensor, lc.rand({ 3 }):totable())
  end)
end)

describe("memory", function()
  local test = require "lacuna.core.test"

  it("is given back when tensors are collected", function()
    collectgarbage()
    local before = test.live()
    for _ = 1, 20 do
      local x = lc.rand { 100, 100 }
      assert.equal(2, #(x + x:t()):matmul(x):softmax(1):index({ 1, 2 }))
    end
    collectgarbage()
    assert.equal(before, (test.live()))
  end)

  it("is not lost when any allocation fails", function()
    local x, w = lc.rand { 4, 6 }, lc.rand { 3, 6 }
    local function work()
      local y = x:linear(w, nil, { act = "gelu" }):softmax(1)
      y:add_(lc.ones { 4, 3 })
      return lc.cat({ y, y:index({ 0, 1 }) }):sum():item()
    end
    local wanted = work()
    collectgarbage()
    local before, first = test.live(), test.allocations()
    work()
    collectgarbage()
    local count = test.allocations() - first
    assert.is_true(count > 10)
    for n = 1, count + 2 do
      test.fail_at(n)
      local ok, result = pcall(work)
      test.fail_at(0)
      if ok then assert.equal(wanted, result) else assert.matches("memory", result) end
      collectgarbage()
      assert.equal(before, (test.live()))
    end
  end)
end)

describe("numbers far from 1", function()
  it("keep the digits of a log_softmax", function()
    for _, dtype in ipairs { "f32", "f64" } do
      local big = dtype == "f32" and 2 ^ 20 or 2 ^ 50
      local y = lc.tensor({ big, big + 1 }, { dtype = dtype }):log_softmax():totable()
      assert.near(-math.log(1 + math.exp(1)), y[1], 1e-6)
      assert.near(-math.log(1 + math.exp(-1)), y[2], 1e-6)
    end
  end)

  it("keep the digits of a cross-entropy and its gradient", function()
    local x = lc.param(lc.tensor { { 1e5, 1e5, 1e5 } })
    local loss = x:cross_entropy { 0 }
    assert.near(math.log(3), loss:item(), 1e-6)
    loss:backward()
    assert.near(-2 / 3, x.grad[1][1]:item(), 1e-6)
    assert.near(1 / 3, x.grad[1][3]:item(), 1e-6)
  end)

  it("are NaN in attention where the scores are", function()
    local y = lc.attention(lc.full({ 1, 1, 1, 2 }, 0 / 0), lc.ones { 1, 3, 1, 2 }, lc.ones { 1, 3, 1, 2 })
    assert.is_true(y:isnan():all():item())
  end)

  it("may be one infinite end of a quantile", function()
    for _, dtype in ipairs { "f32", "f64" } do
      local x = lc.tensor({ -math.huge, 1, 2, math.huge }, { dtype = dtype })
      assert.equal(-math.huge, x:quantile(0.2):item())
      assert.equal(1.5, x:quantile(0.5):item())
      assert.equal(math.huge, x:quantile(0.9):item())
    end
  end)

  it("wrap in sums at indices as in any integer sum", function()
    for dtype, most in pairs { u8 = 255, i32 = 2 ^ 31 - 1 } do
      local x = lc.full({ 1 }, math.tointeger(most), { dtype = dtype })
      local one = lc.ones({ 1 }, { dtype = dtype })
      local sum = (x + one):item()
      assert.is_true(sum < most)
      assert.equal(sum, x:index_add(1, { 0 }, one):item())
      assert.equal(sum, x:scatter_add(1, { 0 }, one):item())
    end
  end)
end)
