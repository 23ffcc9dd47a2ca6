-- Hubs: values that occur with more others than the policy allows. What a value was ever stated with counts, blocked and
-- unlinked partners too; otherwise two hubs would depend on each other.

-- A value without a row in partner_count occurs with the value that its anchor shows beside it, or with none: most values
-- never need a row. A row, once there, has the whole number.

-- Count one more partner of a value; return whether it may be a hub now.
CREATE OR REPLACE FUNCTION count_partner(of_value text, has_partner boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    is_suspect boolean;
BEGIN
    INSERT INTO partner_count AS p (value, partners) VALUES (of_value, CASE WHEN has_partner THEN 2 ELSE 1 END)
    ON CONFLICT (value) DO UPDATE SET partners = p.partners + 1
    RETURNING partners > rules_in_force() / 2 INTO is_suspect;
    RETURN is_suspect;
END $$;

-- Count a new pair of two values; return those of them that have become hubs, null if none.
CREATE OR REPLACE FUNCTION count_pair(
    left_value text, left_has_partner boolean, right_value text, right_has_partner boolean
) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    are_suspect boolean[];
BEGIN
    -- In one order: two requests with the same values wait for each other at the first of them.
    IF left_value < right_value COLLATE "C" THEN
        are_suspect := ARRAY[count_partner(left_value, left_has_partner), count_partner(right_value, right_has_partner)];
    ELSE
        are_suspect := ARRAY[count_partner(right_value, right_has_partner), count_partner(left_value, left_has_partner)];
    END IF;
    IF true = ANY (are_suspect) THEN
        RETURN new_hubs(ARRAY[left_value, right_value]);
    END IF;
    RETURN NULL;
END $$;

-- The values that have more partners than their limit and are not exempt.
CREATE OR REPLACE FUNCTION values_over_limit() RETURNS SETOF text
LANGUAGE sql STABLE AS $$
    SELECT value FROM partner_count AS p, link_policy
    WHERE partners > CASE WHEN strpos(value, '@') > 0 THEN email_limit ELSE phone_limit END
        AND NOT EXISTS (SELECT FROM hub_exemption AS h WHERE h.value = p.value)
$$;

-- Those of these values that are over their limit and still link; null if none.
CREATE OR REPLACE FUNCTION new_hubs(of_values text[]) RETURNS text[]
LANGUAGE sql STABLE AS $$
    SELECT array_agg(value) FROM values_over_limit() AS own (value)
    WHERE value = ANY (of_values)
        AND NOT EXISTS (SELECT FROM blocked_value AS b WHERE b.value = own.value AND is_hub)
$$;

-- Whether so many more partners make a hub of a value that links.
--
-- Then a request locks the primary before it stores anything. Two requests that had stored contacts of one identity, each with
-- a share of the lock on its primary, would wait for each other when both have to work it out again.
CREATE OR REPLACE FUNCTION is_full(of_value text, has_partner boolean, more bigint DEFAULT 1) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    partners_then bigint;
BEGIN
    SELECT partners + more INTO partners_then FROM partner_count WHERE value = of_value;
    partners_then := coalesce(partners_then, has_partner::integer + more);
    IF partners_then <= rules_in_force() / 2 THEN
        RETURN false;
    END IF;
    PERFORM FROM link_policy
    WHERE partners_then > CASE WHEN strpos(of_value, '@') > 0 THEN email_limit ELSE phone_limit END
        AND NOT EXISTS (SELECT FROM hub_exemption WHERE value = of_value);
    RETURN FOUND;
END $$;

-- Refuse to work an identity out again with a share of the lock on its primary: another request that has one, too, may wait
-- for the count of the same value, and each would wait for the other. It happens where requests that were under way made
-- the value full after is_full() had looked; tried again, the request locks the primary first.
CREATE OR REPLACE FUNCTION require_exclusive(is_exclusive boolean) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT is_exclusive THEN
        RAISE EXCEPTION 'a value has become a hub' USING ERRCODE = 'serialization_failure';
    END IF;
END $$;

-- Whether the contact that anchors a value shows another one beside it.
CREATE OR REPLACE FUNCTION has_partner(of_value text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF strpos(of_value, '@') > 0 THEN
        PERFORM FROM contact WHERE email = of_value AND anchors_email AND phone_number IS NOT NULL;
    ELSE
        PERFORM FROM contact WHERE phone_number = of_value AND anchors_phone AND email IS NOT NULL;
    END IF;
    RETURN FOUND;
END $$;

-- The answer to a request whose pair made hubs of values: that after these have stopped linking.
CREATE OR REPLACE FUNCTION answer_after_hubs(
    answer reconciliation,
    hubs text[],
    left_value text,
    right_value text,
    request_run bigint
) RETURNS reconciliation
LANGUAGE plpgsql AS $$
DECLARE
    primary_ids bigint[];
BEGIN
    PERFORM stop_hubs(hubs, request_run);
    primary_ids := primaries_of(ARRAY[left_value, right_value]);
    IF answer.contact_id IS NOT NULL THEN
        PERFORM FROM contact WHERE id = answer.contact_id;
        IF NOT FOUND THEN
            answer.contact_id := NULL;
        END IF;
    END IF;
    IF cardinality(primary_ids) = 0 THEN
        answer.outcome := 'blocked';
    ELSIF answer.contact_id = primary_ids[1] THEN
        answer.outcome := 'created';
    ELSIF answer.contact_id IS NULL AND (answer.outcome <> 'merged' OR cardinality(primary_ids) > 1) THEN
        answer.outcome := 'unchanged';
    END IF;
    answer.primary_id := primary_ids[1];
    RETURN answer;
END $$;

-- The primaries of these values without duplicates, in the order of the values; blocked and unknown ones have none.
CREATE OR REPLACE FUNCTION primaries_of(of_values text[]) RETURNS bigint[]
LANGUAGE sql AS $$
    SELECT coalesce(array_agg(root ORDER BY place), '{}') FROM (
        SELECT coalesce(linked_id, id) AS root, min(place) AS place
        FROM unnest(of_values) WITH ORDINALITY AS own (value, place)
        JOIN contact ON email = own.value AND anchors_email OR phone_number = own.value AND anchors_phone
        WHERE id > 0
        GROUP BY 1
    ) AS found
$$;

CREATE OR REPLACE FUNCTION stop_hubs(hubs text[], request_run bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    command bigint;
BEGIN
    -- A caller with few rights could pass any value: only what the counts say stops.
    hubs := ARRAY(SELECT value FROM values_over_limit() AS own (value) WHERE value = ANY (hubs));
    INSERT INTO steering_command (verb, run_id) VALUES ('hub', request_run) RETURNING id INTO command;
    PERFORM block_values(hubs, command, false, NULL, true);
END $$;

-- Count the partners of all values anew, from everything that was stated. The caller has locked the tables.
CREATE OR REPLACE FUNCTION recount_partners() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM partner_count;
    IF EXISTS (SELECT FROM link_policy WHERE num_nonnulls(email_limit, phone_limit) > 0) THEN
        INSERT INTO partner_count (value, partners)
        SELECT value, partners
        FROM (
            SELECT value, count(*) AS partners
            FROM (SELECT value, other_value FROM stated_pairs()
                  UNION ALL SELECT other_value, value FROM stated_pairs()) AS ways
            GROUP BY value
        ) AS counted
        LEFT JOIN (
            SELECT email AS anchored FROM contact WHERE anchors_email AND phone_number IS NOT NULL
            UNION ALL
            SELECT phone_number FROM contact WHERE anchors_phone AND email IS NOT NULL
        ) AS beside ON anchored = value
        WHERE partners > 1 OR anchored IS NULL;
    END IF;
END $$;

-- Every pair that was ever stated.
CREATE OR REPLACE FUNCTION stated_pairs() RETURNS TABLE (value text, other_value text)
LANGUAGE sql STABLE AS $$
    SELECT email, phone_number FROM contact
    WHERE email IS NOT NULL AND phone_number IS NOT NULL AND id > 0
    UNION
    SELECT email, phone_number FROM set_aside_contact WHERE email IS NOT NULL AND phone_number IS NOT NULL
    UNION
    SELECT value, other_value FROM link_evidence
$$;

-- Let those values be hubs that the counts, the limits and the exemptions say. The caller has locked the tables.
CREATE OR REPLACE FUNCTION apply_hub_limits(command bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    hubs text[] := ARRAY(SELECT values_over_limit());
    starting text[] := ARRAY(SELECT unnest(hubs) EXCEPT SELECT value FROM blocked_value WHERE is_hub);
    ending text[] := ARRAY(SELECT value FROM blocked_value WHERE is_hub EXCEPT SELECT unnest(hubs));
BEGIN
    IF ending <> '{}' THEN
        PERFORM unblock_values(ending, command, as_hub => true);
    END IF;
    IF starting <> '{}' THEN
        PERFORM block_values(starting, command, false, NULL, true);
    END IF;
END $$;

-- Set both limits; null is no limit.
CREATE OR REPLACE FUNCTION set_hub_limits(of_emails integer, of_phones integer, command bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE contact, link_evidence, set_aside_contact IN EXCLUSIVE MODE;
    UPDATE link_policy SET email_limit = of_emails, phone_limit = of_phones;
    PERFORM set_rules_in_force();
    PERFORM recount_partners();
    PERFORM apply_hub_limits(command);
END $$;

-- Let these values link whatever the limits say, or let the limits apply to them again.
CREATE OR REPLACE FUNCTION exempt_values(of_values text[], command bigint, are_exempt boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    hubs text[];
BEGIN
    -- Requests that count partners of these values end first, others wait.
    PERFORM FROM partner_count WHERE value = ANY (of_values) ORDER BY value FOR UPDATE;
    IF are_exempt THEN
        INSERT INTO hub_exemption (value, command_id) SELECT DISTINCT own.value, command
        FROM unnest(of_values) AS own (value) ON CONFLICT DO NOTHING;
        hubs := ARRAY(SELECT value FROM blocked_value WHERE value = ANY (of_values) AND is_hub);
        IF hubs <> '{}' THEN
            PERFORM unblock_values(hubs, command, as_hub => true);
        END IF;
    ELSE
        DELETE FROM hub_exemption WHERE value = ANY (of_values);
        hubs := ARRAY(SELECT value FROM values_over_limit() AS own (value) WHERE value = ANY (of_values));
        IF hubs <> '{}' THEN
            PERFORM block_values(hubs, command, false, NULL, true);
        END IF;
    END IF;
END $$;
