-- Reconcile a request and return the contacts of the identity that it led to, at most `at_most` of them (NULL: all):
-- one round trip for a caller that needs both. A request that led to none returns one row, without a contact.
CREATE OR REPLACE FUNCTION identify(emails text[], phones text[], at_most bigint)
RETURNS TABLE (
    id bigint, email text, phone_number text, linked_id bigint,
    outcome text, primary_id bigint, contact_id bigint, contact_ids bigint[]
)
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation := reconcile_request(emails, phones);
BEGIN
    IF result.primary_id IS NULL THEN
        RETURN QUERY SELECT NULL::bigint, NULL, NULL, NULL::bigint, result.*;
        RETURN;
    END IF;
    RETURN QUERY SELECT member.*, result.* FROM members(result.primary_id, at_most) AS member;
END $$;
