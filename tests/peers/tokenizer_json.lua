-- Lacuna's side of tokenizer_json.py: for each job the ids of a text, as 32-bit integers, least byte first, their text
-- in result.decoded, and the tokenizer saved in result.saved.

local lc = require "lacuna"
local json = require "lacuna.json"

local function read_file(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

local function write_file(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

for _, job in ipairs(json.decode(read_file(arg[1]), arg[1])) do
  local tokenizer = lc.tokenizer(job.tokenizer)
  local ids = tokenizer:encode(read_file(job.text))
  local packed = {}
  for i, id in ipairs(ids.shape[1] > 0 and ids:totable() or {}) do packed[i] = ("<i4"):pack(id) end
  write_file(job.result, table.concat(packed))
  write_file(job.result .. ".decoded", #packed > 0 and tokenizer:decode(ids) or "")
  if job.save then tokenizer:save(job.result .. ".saved") end
end
