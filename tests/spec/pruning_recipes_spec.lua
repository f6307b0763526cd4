-- The pruning recipes at toy width: the settings of a published iterative script by both perplexity protocols, and what
-- must hold of every row whatever the numbers are.

local cli = dofile "tests/cli.lua"
local json = require "lacuna.json"
local lc = require "lacuna"

local SPARSITIES = { 0, 0.1, 0.3, 0.5, 0.7, 0.8 }
local MASK_BLOCK = 2
local SETTINGS = ("--epsilon 1e-8 --block 4 --mask-block %d --samples 2 --sparsities %s"):format(MASK_BLOCK,
  table.concat(SPARSITIES, ","))

local root = os.tmpname()
os.remove(root)
teardown(function() cli.shell("rm -rf " .. root) end)

--- Runs a recipe at toy scale; returns its directory and its logged lines.
local function play(recipe, options, out)
  local result = cli.run(("recipes/%s.lua --toy --out %s/%s %s"):format(recipe, root, out, options))
  assert.equal(0, result.status, result.err)
  local directory, rows = ("%s/%s/%s"):format(root, out, (recipe:gsub("_", "-"))), {}
  for line in io.lines(directory .. "/metrics.jsonl") do rows[#rows + 1] = json.decode(line, "metrics") end
  return directory, rows
end

local function rows_of(rows, model)
  local list = {}
  for _, row in ipairs(rows) do
    if row.model == model then list[#list + 1] = row end
  end
  return list
end

local function load(directory, sparsity) return lc.load(("%s/sparsity-%g"):format(directory, sparsity)) end

--- floor(sparsity n) zeros in each block of columns.
local function expected(model, sparsity)
  local zeros, weights = 0, 0
  for _, layer in ipairs(model:linears()) do
    zeros = zeros + math.floor(sparsity * MASK_BLOCK * layer.outputs) * (layer.inputs // MASK_BLOCK)
    weights = weights + layer.outputs * layer.inputs
  end
  return zeros / weights
end

describe("recipes/iterative_sparsegpt.lua with the published script's settings", function()
  local directories, all = {}, {}
  for _, protocol in ipairs { "windows", "strided" } do
    directories[protocol], all[protocol] = play("iterative_sparsegpt", SETTINGS .. " --protocol " .. protocol, protocol)
  end

  for protocol, rows in pairs(all) do
    local directory, pruned, dense = directories[protocol], rows_of(rows, "pruned"), rows_of(rows, "dense")

    describe("by " .. protocol, function()
      it("reaches the sparsities asked for, in the table and in what is saved", function()
        assert.equal(#SPARSITIES, #pruned)
        for i, sparsity in ipairs(SPARSITIES) do
          local model = load(directory, sparsity)
          assert.equal(sparsity, pruned[i].requested)
          assert.near(expected(model, sparsity), pruned[i].sparsity, 1e-12)
          assert.near(pruned[i].sparsity, lc.mask.held(model):sparsity(), 1e-12)
        end
      end)

      it("keeps pruned zeros through tuning and later rounds", function()
        local before
        for i, sparsity in ipairs(SPARSITIES) do
          local now = lc.mask.held(load(directory, sparsity))
          assert.equal(0, pruned[i].violations)
          if before then assert.equal(1, (now & ~before):sparsity()) end
          before = now
        end
      end)

      it("is the dense model at sparsity 0, bit for bit, before tuning and after", function()
        assert.equal(dense[1].tuned, pruned[1].pruned)
        assert.equal(dense[2].tuned, pruned[1].tuned)
      end)

      it("tunes the dense model for as many rounds, and tuning helps both", function()
        assert.equal(#SPARSITIES + 1, #dense)
        for i, row in ipairs(dense) do
          assert.equal(i - 1, row.round)
          assert.equal(0, row.sparsity)
        end
        assert.is_true(dense[#dense].tuned < dense[1].tuned)
        assert.is_true(pruned[#pruned].tuned < pruned[#pruned].pruned)
      end)
    end)
  end

  it("measures alike models differently by the two protocols", function()
    local windows, strided = load(directories.windows, 0.8), load(directories.strided, 0.8)
    for name, p in pairs(windows:parameters()) do assert.is_true(p:eq(strided:parameter(name)):all():item(), name) end
    assert.not_equal(all.windows[1].tuned, all.strided[1].tuned)
  end)
end)

describe("a pruning recipe that is killed and resumed", function()
  local clock = require("lacuna.core.train").seconds
  for _, recipe in ipairs { "iterative_sparsegpt", "oneshot_finetune", "compare_pruning" } do
    it(("logs what it would have logged: %s"):format(recipe), function()
      local began = clock()
      local _, whole = play(recipe, "", "whole")
      local delay = 0.6 * (clock() - began)
      cli.shell(("%s recipes/%s.lua --toy --out %s/killed & pid=$!; sleep %.3f; kill -9 $pid; wait $pid"):format(
        cli.program, recipe, root, delay))
      local _, resumed = play(recipe, "--resume", "killed")
      assert.same(whole, resumed)
    end)
  end
end)

describe("recipes/oneshot_finetune.lua", function()
  it("begins each sparsity from the dense model, which is a row tuned as long", function()
    local directory, rows = play("oneshot_finetune", "--method magnitude --sparsities 0.8,0.5", "oneshot")
    assert.same({ 0, 0.8, 0.5 }, { rows[1].requested, rows[2].requested, rows[3].requested })
    assert.equal(0, rows[1].sparsity)
    for i = 2, 3 do
      assert.near(rows[i].requested, rows[i].sparsity, 0.02)
      assert.equal(0, rows[i].violations)
      assert.near(rows[i].sparsity, load(directory, rows[i].requested):linears():sparsity(), 1e-4)
      assert.is_true(rows[i].tuned < rows[i].pruned)
    end
  end)
end)

describe("recipes/finetune.lua", function()
  it("keeps the zeros of saved models that it tunes, and changes the rest", function()
    local pruned, data = root .. "/pruned", root .. "/data/wikitext2"
    cli.shell(("mkdir -p %s %s"):format(pruned, data))
    cli.shell(("cp -r %s/windows/iterative-sparsegpt/sparsity-0.[58] %s"):format(root, pruned))
    cli.shell(("rm %s/sparsity-0.8/lacuna.safetensors"):format(pruned)) -- as another program saves
    for _, name in ipairs { "train", "test" } do
      local file = assert(io.open(("%s/%s.txt"):format(data, name), "w"))
      file:write((name .. " has the miller and seven lamps by the river. "):rep(40))
      file:close()
    end
    local saved = { pruned .. "/sparsity-0.5", pruned .. "/sparsity-0.8" }
    local result = cli.shell(("LACUNA_DATA=%s/data %s recipes/finetune.lua --models %s --steps 4 --batch 4 --lr 1e-3 "
      .. "--length 32 --out %s/finetune"):format(root, cli.program, table.concat(saved, ","), root))
    assert.equal(0, result.status, result.err)
    local directory, i = root .. "/finetune/finetune", 0
    for line in io.lines(directory .. "/metrics.jsonl") do
      local row = json.decode(line, "metrics")
      i = i + 1
      local before = lc.load(saved[i])
      local after = lc.load(("%s/%d-sparsity-%g"):format(directory, i, i == 1 and 0.5 or 0.8))
      assert.equal(saved[i], row.model)
      assert.near(before:linears():sparsity(), row.sparsity, 1e-12)
      assert.equal(0, row.violations)
      assert.is_true(row.tuned < row.before)
      for k, layer in ipairs(before:linears()) do
        local zero = layer.weight:eq(0)
        assert.equal(zero:sum():item(), (zero & after:linears()[k].weight:eq(0)):sum():item(), layer.name)
        assert.is_true(layer.weight:ne(after:linears()[k].weight):any():item())
      end
    end
    assert.equal(2, i)
  end)
end)

describe("recipes/compare_pruning.lua", function()
  it("and oneshot_finetune.lua refuse what does not prune by itself before any work", function()
    for name, option in pairs { compare_pruning = "--methods", oneshot_finetune = "--method" } do
      local result = cli.run(("--toy --out %s recipes/%s.lua %s allocate"):format(root, name, option))
      local wanted = "option '%s' must be one of random, magnitude, wanda, ria, sparsegpt, alps, got 'allocate'"
      assert.matches(wanted:format(option), result.err, 1, true)
    end
  end)

  it("has a row for the dense model and each method at each sparsity and pattern, a CSV and both plots", function()
    local directory, rows = play("compare_pruning", "--methods random,ria,sparsegpt --patterns 2:4,4:8", "compare")
    assert.equal(1 + 3 * 3, #rows)
    assert.equal("dense", rows[1].method)
    assert.equal(0, rows[1].sparsity)
    for i, row in ipairs(rows) do
      if i > 1 then assert.near(0.5, row.sparsity, 0.01) end
      assert.equal(i > 1 and 0.5 or nil, row.requested)
      assert.is_true(row.tuned < row.perplexity)
    end
    local lines = 0
    for line in io.lines(directory .. "/comparison.csv") do
      lines = lines + 1
      local _, commas = line:gsub(",", "")
      assert.equal(6, commas)
    end
    assert.equal(1 + #rows, lines)
    for _, scale in ipairs { "linear", "log" } do
      local file = assert(io.open(("%s/1-perplexity-%s.gnuplot"):format(directory, scale)))
      local plot = file:read "a"
      assert.equal(scale == "log", plot:find("set logscale y", 1, true) ~= nil)
      assert.matches("set key above", plot, 1, true) -- where no point is
      file:close()
      file = assert(io.open(("%s/1-tuned-patterns-%s.gnuplot"):format(directory, scale)))
      local script = file:read "a"
      assert.matches("EOD\n4 [%d.]+\n8 [%d.]+\nEOD", script) -- 2:4 and 4:8, by the width of their groups
      assert.matches("title 'ria, 50%'", script, 1, true)
      file:close()
    end
    for _, name in ipairs { "1-dense", "1-dense-tuned", "1-ria-2:4", "1-ria-2:4-tuned" } do
      assert.matches("^The city was founded in.", assert(io.open(("%s/%s.txt"):format(directory, name))):read "a")
    end
  end)

  it("refuses patterns that do not fit before any work", function()
    for pattern, problem in pairs {
      ["2:7"] = "self_attn.k_proj has 32 inputs, which groups of 7 do not divide",
      ["2-4"] = "pattern '2-4' is not n:m",
      ["16:32 --models opt,llama"] = "mlp.down_proj has 80 inputs, which groups of 32 do not divide",
    } do
      local result = cli.run(("--toy --out %s/no recipes/compare_pruning.lua --patterns %s"):format(root, pattern))
      assert.matches(problem, result.err, 1, true)
      assert.is_nil(io.open(root .. "/no/compare-pruning/1-dense.txt"))
    end
  end)
end)
