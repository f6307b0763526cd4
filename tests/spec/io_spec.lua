-- Files of tensors: reading when asked, casts, views, metadata, sets of shards, messages, nothing half written.

local cli = require "tests.cli"
local lc = require "lacuna"
local files = require "lacuna.core.files"
local temporary = dofile "tests/temporary.lua"

local directory
setup(function()
  directory = temporary(".io")
  files.make_dirs(directory)
end)
teardown(function() files.remove_tree(directory) end)

local function path(name) return directory .. "/" .. name end

local function refuses(pattern, fn, ...)
  local ok, problem = pcall(fn, ...)
  assert.is_false(ok)
  assert.matches(pattern, problem)
end

describe("lc.io", function()
  it("gives back every dtype and shape", function()
    local tensors = {}
    for _, dtype in ipairs { "f32", "f64", "f16", "bf16", "i32", "i64", "u8", "bool" } do
      tensors[dtype] = lc.tensor({ { 0, 1, 1 }, { 1, 0, 0 } }, { dtype = "f32" }):to(dtype)
    end
    tensors.scalar = lc.tensor(2.5)
    tensors.empty = lc.zeros { 0, 3 }
    lc.io.save(path "all.safetensors", tensors)
    local file = lc.io.open(path "all.safetensors")
    assert.equal(10, #file)
    local seen = 0
    for name, t in pairs(file) do
      seen = seen + 1
      assert.equal(tensors[name].dtype, t.dtype)
      assert.same(tensors[name].shape, t.shape)
      assert.same(tensors[name]:to("f64"):totable(), t:to("f64"):totable())
    end
    assert.equal(10, seen)
    assert.is_nil(file.nothing)
    assert.equal("10 tensors in a file", tostring(file))
  end)

  it("writes views as what they show", function()
    local x = lc.randn { 5, 7 }
    lc.io.save(path "views.safetensors", { t = x:transpose(1, 2), s = x { { 2, 4 }, {} } })
    local file = lc.io.open(path "views.safetensors")
    assert.same(x:transpose(1, 2):totable(), file.t:totable())
    assert.same(x { { 2, 4 }, {} }:totable(), file.s:totable())
  end)

  it("takes ~ at the beginning of a path for the home directory", function()
    files.make_dirs(path "home")
    local result = cli.shell(("HOME='%s' LACUNA_DATA='~/texts' %s -e '%s'"):format(path "home", cli.program, [[
      local lc = require "lacuna"
      lc.io.save("~/x.safetensors", { x = lc.ones { 2 } })
      print(#lc.io.open "~/x.safetensors")
      lc.model { family = "gpt2", n_embd = 8, n_layer = 1, n_head = 2, vocab_size = 300 } :save "~/models/tiny"
      print(lc.load("~/models/tiny").family)
      lc.tokenizer.bytes():save "~/bytes"
      print(#lc.tokenizer "~/bytes")
      print(pcall(lc.dataset, { tokenizer = lc.tokenizer.bytes(), length = 8, source = "some/text" }))]]))
    assert.equal("", result.err)
    assert.matches("^1\ngpt2\n257\nfalse\t.*put it into " .. path "home/texts/some/text.txt", result.out)
    assert.is_nil(io.open "~")
  end)

  it("casts on the way", function()
    local x = lc.tensor { 1.5, -2.25, 3e-3 }
    lc.io.save(path "cast.safetensors", { x = x, n = lc.tensor({ 1, 2 }, { dtype = "i64" }) }, { dtype = "bf16" })
    local file = lc.io.open(path "cast.safetensors")
    assert.equal("bf16", file.x.dtype)
    assert.equal("i64", file.n.dtype)
    assert.same(x:to("bf16"):to("f32"):totable(), lc.io.read(file, "x", "f32"):totable())
    assert.same({ 1.0, 2.0 }, lc.io.read(file, "n", "f64"):totable())
  end)

  it("keeps metadata, and lists a file without reading it", function()
    local metadata = { format = "pt", note = "line\n\"two\"" }
    lc.io.save(path "meta.safetensors", { w = lc.zeros { 2, 3 } }, { metadata = metadata })
    local file = lc.io.open(path "meta.safetensors")
    assert.same(metadata, lc.io.metadata(file))
    assert.same({ { name = "w", dtype = "f32", shape = { 2, 3 } } }, lc.io.info(file))
  end)

  it("reads a set of shards by its index", function()
    lc.io.save(path "one.safetensors", { a = lc.tensor { 1 } })
    lc.io.save(path "two.safetensors", { b = lc.tensor { 2 } })
    files.write(path "model.safetensors.index.json",
      '{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}')
    local set = lc.io.open(directory)
    assert.equal(2, #set)
    assert.same({ 2.0 }, set.b:totable())
  end)

  it("gives the same bytes for the same tensors", function()
    local a, b = lc.randn { 3 }, lc.randn { 2, 2 }
    lc.io.save(path "one", { a = a, b = b, c = a })
    lc.io.save(path "two", { c = a, b = b, a = a })
    assert.equal(files.read(path "one"), files.read(path "two"))
  end)

  it("says what is wrong, and leaves the old file whole", function()
    lc.io.save(path "old.safetensors", { x = lc.tensor { 7 } })
    refuses("save: 'x' must be a tensor, got 5", lc.io.save, path "old.safetensors", { x = 5 })
    refuses("names of tensors are strings, got 1", lc.io.save, path "old.safetensors", { lc.zeros { 1 } })
    refuses('"__metadata__" cannot be the name', lc.io.save, path "old.safetensors", { __metadata__ = lc.zeros { 1 } })
    refuses("metadata is a table of strings", lc.io.save, path "old.safetensors", {}, { metadata = { n = 1 } })
    refuses("unknown option 'dtyp' %(did you mean 'dtype'%?%)", lc.io.save, path "x", {}, { dtyp = "f16" })
    refuses("cannot write", lc.io.save, directory .. "/no/such/place.safetensors", { x = lc.zeros { 1 } })
    assert.same({ 7.0 }, lc.io.open(path "old.safetensors").x:totable())
    refuses("no tensor y among its 1, x to x", lc.io.read, lc.io.open(path "old.safetensors"), "y")
    files.write(path "cut.safetensors", files.read(path "old.safetensors"):sub(1, -2))
    refuses("tensor x ends at byte .*past the end of the file .*the download looks cut off: fetch it again",
      lc.io.open, path "cut.safetensors")
    refuses("No such file", lc.io.open, path "absent.safetensors")
  end)
end)
