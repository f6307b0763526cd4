-- Every recipe runs under --toy in seconds, from nothing but the repository; lists its options; and gives the same
-- numbers at any thread count.

local cli = dofile "tests/cli.lua"
local temporary = dofile "tests/temporary.lua"

local function recipes()
  local list = {}
  for path in cli.shell("ls recipes/*.lua recipes/scratch/*.lua").out:gmatch "[^\n]+" do list[#list + 1] = path end
  return list
end

local function metrics(directory)
  return cli.shell(("cat %s/*/metrics.jsonl"):format(directory)).out
end

for _, path in ipairs(recipes()) do
  describe(path, function()
    it("lists its options", function()
      local result = cli.run(path .. " --help")
      assert.equal(0, result.status, result.err)
      assert.matches("--toy", result.out, 1, true)
    end)

    it("refuses an option that it does not have", function()
      local result = cli.run(path .. " --no-such-option 1")
      assert.not_equal(0, result.status)
      assert.matches("no%-such%-option", result.err)
    end)

    it("runs at toy scale, with the same numbers at one thread and at two", function()
      local seen = {}
      for threads = 1, 2 do
        local directory = temporary()
        local result = cli.run(("%s --toy --threads %d --out %s"):format(path, threads, directory))
        assert.equal(0, result.status, result.err)
        assert.matches("%d", result.out) -- a recipe shows what it measured
        seen[threads] = metrics(directory)
      end
      assert.is_true(#seen[1] > 0)
      assert.equal(seen[1], seen[2])
    end)
  end)
end

describe("recipes/quickstart.lua", function()
  it("leaves a table, a picture, and models that can be loaded with their masks", function()
    local directory = temporary()
    local result = cli.run("recipes/quickstart.lua --toy --out " .. directory)
    assert.equal(0, result.status, result.err)
    assert.matches("sparsity%s+pruned%s+tuned%s+dense", result.out)
    local lc = require "lacuna"
    local model = lc.load(directory .. "/quickstart/sparsity-0.5")
    local sparsity = model:linears():sparsity()
    assert.is_true(math.abs(sparsity - 0.5) < 0.01)
    assert.equal(0, lc.mask.of(model):violations(model))
  end)
end)
