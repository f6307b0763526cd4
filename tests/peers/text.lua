-- Lacuna's side of text.py: the jobs of a file, one after the other.

local lc = require "lacuna"
local json = require "lacuna.json"

local function read_file(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

--- The ids as 32-bit integers, least byte first.
local function write_ids(path, ids)
  local packed = {}
  for i, id in ipairs(ids:totable()) do packed[i] = ("<i4"):pack(id) end
  local file = assert(io.open(path, "wb"))
  file:write(table.concat(packed))
  file:close()
end

local work = {
  encode = function(job) write_ids(job.result, lc.tokenizer(job.tokenizer):encode(read_file(job.text))) end,
  train = function(job)
    lc.tokenizer.train({
      text = read_file(job.text), vocab_size = job.vocab_size, min_frequency = job.min_frequency,
    }):save(job.result)
  end,
}

for _, job in ipairs(json.decode(read_file(arg[1]), arg[1])) do work[job.what](job) end
