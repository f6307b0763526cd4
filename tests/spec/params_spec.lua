-- lc.params: types from defaults, --help, --toy, exact messages. Recipes run in an interpreter of their own.

local cli = require "tests.cli"
local temporary = dofile "tests/temporary.lua"

local recipe = [[
-- Tunes nothing at all.
-- Second line.
local lc = require "lacuna"
local p = lc.params {
  model = "gpt2", steps = 100, lr = 2e-5, levels = { 0.3, 0.5 }, tune = true, warm_up = 0.0,
  sparsity = 0.5, sparsities = { 0.5 }, by = "row", methods = { "wanda" },
  help = { steps = "optimizer steps" },
  choices = { by = { "row", "layer" }, methods = { "wanda", "alps", "ria" } },
  toy = { steps = 2, model = "tiny" },
}
print(p)
print("seed", p.seed, "toy", p.toy, math.type(p.lr))
]]

local function run(arguments, text, before)
  return cli.recipe(text or recipe, arguments, before)
end

--- What `name = value` line the recipe printed.
local function printed(output, name)
  return output:match("%f[%w_]" .. name .. " = ([^\n]*)")
end

describe("lc.params", function()
  it("gives the defaults when nothing is said", function()
    local result = run ""
    assert.equal("", result.err)
    assert.equal("by = row\nlevels = 0.3,0.5\nlr = 2e-05\nmethods = wanda\nmodel = gpt2\n" ..
      "sparsities = 0.5\nsparsity = 0.5\nsteps = 100\ntune = true\nwarm_up = 0.0\n" ..
      "seed\tnil\ttoy\tnil\tfloat\n", result.out)
  end)

  it("reads --name value, --name=value, flags, lists, and - for _", function()
    local out = run("--steps 7 --model=a=b --no-tune --levels 0.1,0.9,1 --warm-up 3 --lr 1").out
    assert.equal("7", printed(out, "steps"))
    assert.equal("a=b", printed(out, "model"))
    assert.equal("false", printed(out, "tune"))
    assert.equal("0.1,0.9,1.0", printed(out, "levels"))
    assert.equal("3.0", printed(out, "warm_up"))
    assert.equal("1.0", printed(out, "lr"))
  end)

  it("reads words where an option has choices", function()
    local out = run("--by layer --methods ria,alps").out
    assert.equal("layer", printed(out, "by"))
    assert.equal("ria,alps", printed(out, "methods"))
    assert.equal("", printed(run("--methods=").out, "methods"))
  end)

  it("takes the toy defaults under --toy, before or after the file, and what is said wins", function()
    assert.equal("2", printed(run("--toy").out, "steps"))
    assert.equal("tiny", printed(cli.recipe(recipe, "", "--toy").out, "model"))
    assert.equal("9", printed(run("--toy --steps 9").out, "steps"))
    assert.equal("100", printed(run("--no-toy").out, "steps"))
  end)

  it("reads the options of every recipe after the file", function()
    assert.truthy(run("--seed 12").out:find("seed\t12", 1, true))
    assert.truthy(cli.recipe(recipe, "", "--seed 3").out:find("seed\t3", 1, true))
    assert.truthy(cli.recipe(recipe, "--seed 4", "--seed 3").out:find("seed\t4", 1, true))
  end)

  it("is missed by a run where an option stands after the file and nothing reads it", function()
    local directory = temporary()
    local text = 'local lc = require "lacuna" %s lc.run { name = "x" }'
    local result = run("--resume --mine 3", text:format "", "--out " .. directory)
    assert.equal(0, result.status)
    assert.equal(("lacuna: warning: --resume after %s is not read, since the recipe has not called lc.params; "
      .. "put it before the file\n"):format(result.path), result.err)
    assert.equal("", run("--mine 3", text:format "", "--out " .. directory).err)
    assert.equal("", run("--seed 3", text:format "lc.params {}", "--out " .. directory).err)
    assert.equal("", cli.run("--out " .. directory .. " -e 'lc.run { name = \"y\" }'").err)
  end)

  it("lets a recipe set a default for an option of every recipe", function()
    local text = 'local p = require("lacuna").params { seed = 5 } print(p.seed)'
    assert.equal("5\n", run("", text).out)
    assert.equal("6\n", run("--seed 6", text).out)
  end)

  for _, case in ipairs {
    { "--stepz 3", "unknown option '--stepz' (did you mean '--steps'?)" },
    { "--seeed 3", "unknown option '--seeed' (did you mean '--seed'?)" },
    { "--zzzzzz", "unknown option '--zzzzzz'" },
    { "--steps", "option '--steps' needs a value" },
    { "--steps 1.5", "option '--steps' expects an integer, got '1.5'" },
    { "--lr fast", "option '--lr' expects a number, got 'fast'" },
    { "--warm-up x", "option '--warm-up' expects a number, got 'x'" },
    { "--tune=maybe", "option '--tune' expects true or false, got 'maybe'" },
    { "--levels 0.1,x", "option '--levels' expects a number, got 'x'" },
    { "--threads 0", "option '--threads' must be 1 to 256, got 0" },
    { "--dtype f23", "option '--dtype' must be one of f32, f64, got 'f23' (did you mean 'f32'?)" },
    { "--by rows", "option '--by' must be one of row, layer, got 'rows' (did you mean 'row'?)" },
    { "--methods wanda,obs", "option '--methods' must be one of wanda, alps, ria, got 'obs'" },
    { "stray", "unexpected argument 'stray'" },
    { "--sparsities 0.5,90", "option '--sparsities' takes shares from 0 to 1, got 90; for 90% write 0.9" },
    { "--sparsity -0.5", "option '--sparsity' takes shares from 0 to 1, got -0.5" },
  } do
    it("refuses " .. case[1], function()
      local result = run(case[1])
      assert.equal(("lacuna: %s: %s; see --help\n"):format(result.path, case[2]), result.err)
      assert.equal(1, result.status)
      assert.equal("", result.out)
    end)
  end

  it("lists the options with their defaults under --help, and runs nothing", function()
    local result = run "--toy --help"
    assert.equal(0, result.status)
    assert.truthy(result.out:find("^Tunes nothing at all%.\nSecond line%.\n\nusage: lacuna "))
    assert.truthy(result.out:find("\n  --steps INTEGER              optimizer steps (default 2)\n", 1, true))
    assert.truthy(result.out:find("\n  --levels LIST                (default 0.3,0.5)\n", 1, true))
    assert.truthy(result.out:find("\n  --by row|layer               (default row)\n", 1, true))
    assert.truthy(result.out:find("\n  --methods wanda|alps|ria,... (default wanda)\n", 1, true))
    assert.truthy(result.out:find("\n  --seed INTEGER ", 1, true))
    assert.falsy(result.out:find("model = ", 1, true))
  end)

  for name, case in pairs {
    ["a wrong name in toy"] = { "lc.params { steps = 1, toy = { stops = 2 } }",
      "params: toy names 'stops', which is no option (did you mean 'steps'?)" },
    ["a wrong name in help"] = { "lc.params { steps = 1, help = { lr = 'x' } }",
      "params: help names 'lr', which is no option" },
    ["a wrong name in choices"] = { "lc.params { steps = 1, choices = { stops = { 'x' } } }",
      "params: choices names 'stops', which is no option (did you mean 'steps'?)" },
    ["choices of a number"] = { "lc.params { steps = 1, choices = { steps = { 1, 2 } } }",
      "params: 'steps' has choices, so its default must be a string or a list of strings" },
    ["choices of a flag"] = { "lc.params { tune = true, choices = { tune = { 'true' } } }",
      "params: 'tune' has choices, so its default must be a string or a list of strings" },
    ["choices that are no list"] = { "lc.params { by = 'row', choices = { by = 'row' } }",
      "params: the choices of 'by' must be a list of strings" },
    ["no choices"] = { "lc.params { by = 'row', choices = { by = {} } }",
      "params: the choices of 'by' must be a list of strings" },
    ["choices that are no strings"] = { "lc.params { by = 'row', choices = { by = { 'row', {} } } }",
      "params: the choices of 'by' must be a list of strings" },
    ["choices with a hole"] = { "lc.params { by = 'row', choices = { by = { 'row', nil, 'x' } } }",
      "params: the choices of 'by' must be a list of strings" },
    ["choices with a comma in a list"] = { "lc.params { by = { 'c' }, choices = { by = { 'a,b', 'c' } } }",
      "params: the choices of 'by' are separated by commas, so 'a,b' cannot be one" },
    ["a toy default of another type"] = { "lc.params { by = { 'row' }, toy = { by = 'row' } }",
      "params: toy has a string for 'by', whose default is a table" },
    ["choices for an option of every recipe"] = { "lc.params { dtype = 'f32', choices = { dtype = { 'f32' } } }",
      "params: 'dtype' is an option of every recipe: its choices are fixed" },
    ["a default that is no choice"] = { "lc.params { by = 'rwo', choices = { by = { 'row', 'layer' } } }",
      "params: the default of 'by' must be one of row, layer, got 'rwo' (did you mean 'row'?)" },
    ["a toy default that is no choice"] = {
      "lc.params { by = { 'row' }, choices = { by = { 'row' } }, toy = { by = { 'row', 'x' } } }",
      "params: the default of 'by' must be one of row, got 'x'" },
    ["a default without a type"] = { "lc.params { f = print }",
      "params: 'f' needs a default that is a number, string, boolean or list of those, got a function" },
    ["an empty list"] = { "lc.params { f = {} }",
      "params: 'f' needs a default that is a number, string, boolean or list of those, got a table without elements" },
    ["reading what was not declared"] = { "print(lc.params { steps = 1 }.step)",
      "params: no option 'step' (did you mean 'steps'?)" },
  } do
    it("refuses " .. name, function()
      local result = run("", 'local lc = require "lacuna"\n' .. case[1])
      assert.equal(("lacuna: %s:2: %s\n"):format(result.path, case[2]), result.err)
    end)
  end

  it("gives a recipe its own copy of a list", function()
    local result = run("", [[
      local lc = require "lacuna"
      local defaults = { levels = { 1, 2 } }
      lc.params(defaults).levels[1] = 9
      print(defaults.levels[1])]])
    assert.equal("1\n", result.out)
  end)
end)
