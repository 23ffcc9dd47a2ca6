-- The primary of a contact's identity as it was when `at_run` had come to `at_line`: merges that this run did
-- later are not followed. What a request that stored nothing was answered, after a crash took the answer away.
CREATE OR REPLACE FUNCTION primary_at(of_contact bigint, at_run bigint, at_line bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE chain (depth, id) AS (
        SELECT 0, coalesce(initial_linked_id, contact.id) FROM contact WHERE contact.id = of_contact
        UNION ALL
        SELECT depth + 1, primary_id FROM chain JOIN link_evidence ON merged_id = chain.id
        WHERE (run_id = at_run AND line > at_line) IS NOT TRUE
    )
    SELECT id FROM chain ORDER BY depth DESC LIMIT 1
$$;
